//! People who raise, one after the other, and their contacts.

use crate::books::{Books, Sos};
use crate::listener::{Heards, Listener};
use cima::client::{Api, Heard, Session, Socket, fix, fixes};
use cima::clock::Clock;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// Openings of a person that are all told: the server lets more than five an hour coalesce.
pub const OPENINGS: usize = 5;
/// Until an app asks again, by the other way: the stream, then HTTP.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two tries after a refusal or a broken connection.
const AGAIN: Duration = Duration::from_millis(100);
/// Until an SOS that nobody takes, or nobody hears of, is given up.
const GIVEN_UP: Duration = Duration::from_secs(60);
/// Frames, and fixes of each, that a phone floods with: twice the server's window.
const FLOOD: (usize, usize) = (6, 170);
/// Sign-ups at a time.
const AT_ONCE: usize = 8;

/// Somebody who may need help, on a phone.
struct Person {
    session: Session,
    contact: usize,
    socket: Option<Socket>,
    turn: usize,
    seq: i64,
    pin: Option<&'static str>,
}

/// How phones and contacts reach the nodes.
#[derive(Clone)]
pub struct Ways {
    /// Where phones stream, in turns.
    pub phones: Vec<Api>,
    /// Where contacts stream, in turns.
    pub contacts: Vec<Api>,
    /// Where everybody speaks HTTP.
    pub rest: Api,
}

/// People with a contact each, and what is known of them.
pub struct Circle {
    ways: Ways,
    people: Arc<Mutex<VecDeque<Person>>>,
    contacts: Vec<Listener>,
    books: Arc<Mutex<Books>>,
    /// A phone sends more fixes than the server holds of it, right before it raises.
    pub flood_before: bool,
}

impl Circle {
    /// Enough people for so many SOS, each told.
    ///
    /// # Errors
    /// When somebody cannot be signed up.
    pub async fn gather(ways: &Ways, sos: usize) -> anyhow::Result<Self> {
        Self::of(ways, sos, None).await
    }

    /// The same, and everybody ends their emergency with a PIN.
    ///
    /// # Errors
    /// When somebody cannot be signed up.
    pub async fn gather_with_pins(ways: &Ways, sos: usize) -> anyhow::Result<Self> {
        Self::of(ways, sos, Some("4711")).await
    }

    async fn of(ways: &Ways, sos: usize, pin: Option<&'static str>) -> anyhow::Result<Self> {
        let pairs = (0..sos.div_ceil(OPENINGS)).map(|n| {
            let ways = ways.clone();
            async move {
                let (handle, contact) = (format!("sos_person_{n}"), format!("sos_contact_{n}"));
                let session = ways.rest.sign_up(&handle, "Person").await?;
                if let Some(pin) = pin {
                    let body = json!({"pin": pin});
                    ways.rest.call("PATCH", "/v1/me", Some(&session.access), Some(&body)).await?.ok()?;
                }
                let theirs = ways.rest.sign_up(&contact, "Contact").await?;
                ways.rest.link(&session, &theirs, &contact, &["alerts", "emergency_location"]).await?;
                let listener = Listener::start(
                    ways.contacts[n % ways.contacts.len()].clone(),
                    theirs,
                    Some(session.user.clone()),
                );
                anyhow::Ok((Person { session, contact: n, socket: None, turn: n, seq: 0, pin }, listener))
            }
        });
        let both: Vec<(Person, Listener)> = stream::iter(pairs).buffered(AT_ONCE).try_collect().await?;
        let (mut people, mut contacts) = (VecDeque::new(), Vec::new());
        for (mut person, contact) in both {
            person.connect(ways).await;
            people.push_back(person);
            contacts.push(contact);
        }
        let until = Instant::now() + GIVEN_UP;
        while contacts.iter().any(|contact| !contact.is_there()) && Instant::now() < until {
            sleep(AGAIN).await;
        }
        Ok(Self {
            ways: ways.clone(),
            people: Arc::new(Mutex::new(people)),
            contacts,
            books: Arc::default(),
            flood_before: false,
        })
    }

    /// An SOS every so often, until the end; each is answered, told and ended, or given up, before this returns. `countdown_s`
    /// is of each.
    pub async fn raise_every(&self, pause: Duration, until: Instant, countdown_s: u64) {
        let (mut next, mut open) = (Instant::now(), JoinSet::new());
        while next < until {
            let free = self.people.lock().unwrap().pop_front();
            if let Some(mut person) = free {
                let (books, people, ways) =
                    (Arc::clone(&self.books), Arc::clone(&self.people), self.ways.clone());
                let heard = self.contacts[person.contact].book();
                let flood = self.flood_before;
                open.spawn(async move {
                    if flood {
                        person.flood().await;
                    }
                    person.raise(&books, &heard, &ways, countdown_s).await;
                    people.lock().unwrap().push_back(person);
                });
            }
            next += pause;
            tokio::time::sleep_until(next).await;
            while open.try_join_next().is_some() {}
        }
        open.join_all().await;
    }

    /// Looks into the books and what the contacts have heard.
    pub fn read<T>(&self, look: impl FnOnce(&Books, &[&Heards]) -> T) -> T {
        let heard: Vec<_> = self.contacts.iter().map(Listener::heard).collect();
        let heard: Vec<&Heards> = heard.iter().map(|heard| &**heard).collect();
        look(&self.books.lock().unwrap(), &heard)
    }
}

/// What a phone was answered.
enum Answer {
    /// It is kept, in one place at least.
    Taken,
    Refused,
    Nothing,
}

/// An answer that nothing is kept is none that a person may rely on.
fn is_kept(answer: &Value) -> bool {
    answer["copies"].as_u64() >= Some(1)
}

impl Person {
    async fn connect(&mut self, ways: &Ways) {
        let at = &ways.phones[self.turn % ways.phones.len()];
        self.turn += 1;
        let opened = async {
            let mut socket = at.stream(&self.session.access).await?;
            socket.wait("welcome").await?;
            anyhow::Ok(socket)
        };
        self.socket = timeout(PATIENCE, opened).await.ok().and_then(Result::ok);
    }

    /// Sends more fixes than the server holds of a phone, without waiting for any answer.
    async fn flood(&mut self) {
        let Some(socket) = &mut self.socket else { return };
        for _ in 0..FLOOD.0 {
            let now = Clock::system().now();
            let frame: Vec<Value> = (0..FLOOD.1)
                .map(|_| {
                    self.seq += 1;
                    fix(self.seq, 48.2, 16.37, now)
                })
                .collect();
            // A broken connection is found by the raise.
            let _ = socket.send(&fixes(&frame)).await;
        }
    }

    async fn raise(&mut self, books: &Mutex<Books>, heard: &Mutex<Heards>, ways: &Ways, countdown_s: u64) {
        let id = cima::id::fresh(&Clock::system()).to_string();
        let sent = Instant::now();
        let sos = Sos {
            id: id.clone(),
            subject: self.session.user.clone(),
            contact: self.contact,
            sent,
            refused: 0,
            accepted: None,
            not_before: sent + Duration::from_secs(countdown_s),
            ended: None,
            end_took: None,
        };
        let number = {
            let mut books = books.lock().unwrap();
            books.raised.push(sos);
            books.raised.len() - 1
        };
        let book = |write: &dyn Fn(&mut Sos)| write(&mut books.lock().unwrap().raised[number]);
        self.seq += 1;
        let fix = fix(self.seq, 48.2, 16.37, Clock::system().now());
        let raise =
            json!({"type": "emergency", "id": id, "kind": "sos", "countdown_s": countdown_s, "fix": fix});
        while sent.elapsed() < GIVEN_UP {
            let answer = timeout(PATIENCE, self.ask(&raise, ways)).await.unwrap_or(Answer::Nothing);
            match answer {
                Answer::Taken => {
                    book(&|sos| sos.accepted = Some(Instant::now()));
                    break;
                }
                Answer::Refused => book(&|sos| sos.refused += 1),
                Answer::Nothing => self.socket = None,
            }
            sleep(AGAIN).await;
        }
        let told = async {
            while !heard.lock().unwrap().told.iter().any(|told| told.emergency == id) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        let given_up = sent + Duration::from_secs(countdown_s) + GIVEN_UP;
        // What nobody heard of is found in the books.
        let _ = timeout_at(given_up, told).await;
        let body = self.pin.map_or_else(|| json!({}), |pin| json!({"pin": pin}));
        while sent.elapsed() < 2 * GIVEN_UP {
            let (end, asked) = (format!("/v1/emergencies/{id}/resolve"), Instant::now());
            let ended = ways.rest.post(&end, &self.session.access, body.clone()).await;
            if ended.is_ok_and(|answer| matches!(answer.status, 200 | 404 | 409)) {
                let now = Instant::now();
                book(&|sos| (sos.ended, sos.end_took) = (Some(now), Some(now.duration_since(asked))));
                break;
            }
            sleep(AGAIN).await;
        }
        if self.socket.is_none() {
            self.connect(ways).await;
        }
    }

    /// By the stream; by HTTP, if there is none.
    async fn ask(&mut self, raise: &Value, ways: &Ways) -> Answer {
        let Some(socket) = &mut self.socket else {
            let mut body = raise.clone();
            body.as_object_mut().unwrap().remove("type");
            let asked = ways.rest.post("/v1/emergencies", &self.session.distress, body).await;
            // The next try goes by a stream again, if there is one.
            self.connect(ways).await;
            return match asked {
                Ok(answer) if matches!(answer.status, 200 | 201) && is_kept(&answer.body) => Answer::Taken,
                Ok(_) => Answer::Refused,
                Err(_) => Answer::Nothing,
            };
        };
        if socket.send(raise).await.is_err() {
            return Answer::Nothing;
        }
        loop {
            match socket.hear().await {
                Heard::Frame(frame) if frame["type"] == "accepted" && frame["id"] == raise["id"] => {
                    return if is_kept(&frame) { Answer::Taken } else { Answer::Refused };
                }
                Heard::Frame(frame) if frame["type"] == "error" && frame["emergency"] == raise["id"] => {
                    return Answer::Refused;
                }
                Heard::Frame(_) => {}
                Heard::Closed(_) | Heard::Gone => return Answer::Nothing,
            }
        }
    }
}
