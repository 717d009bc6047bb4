//! Clients of every kind, as chance makes them: on the stream and over HTTP, with and without numbers, their newest fixes first
//! or last, with clocks that are wrong or set, two phones of one person, reinstalls, connections that are cut and answers that
//! are lost, while the server is killed again and again.
//!
//! No fix that a client was told is stored is missing, none is there twice, and no place of an open emergency is unseen by its
//! contacts. `CIMA_SEED` plays a run again, `CIMA_CLIENT` one of its people.

mod phone;

use crate::harness::{Dice, handle, proving, seed};
use crate::kill::Server;
use anyhow::{Context, ensure};
use cima::client::{Api, DEADLINE, Session};
use phone::{Phone, Sent, Told};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// People who are played at a time; then the server is killed in the middle of what they do.
const AT_ONCE: usize = 100;
/// For what somebody does; on a busy machine a hundred do it at a time.
const PATIENCE: Duration = Duration::from_secs(120);
/// Before a sign-in that was one too many is tried again.
const AGAIN: Duration = Duration::from_millis(20);
/// All that is kept, of whatever time.
const ALL: &str = "from=1900-01-01T00:00:00Z&to=2200-01-01T00:00:00Z&limit=1000";

/// Somebody and their phones.
struct Somebody {
    number: usize,
    dice: Dice,
    handle: String,
    phones: Vec<Phone>,
    emergency: Option<String>,
}

/// What was played, for the last line.
#[derive(Default)]
struct Played {
    people: usize,
    clients: usize,
    stored: usize,
    raised: usize,
}

/// Passwords are hashed a few at a time: who is one too many is told to come again.
async fn patiently<T, F: Future<Output = anyhow::Result<T>>>(
    mut attempt: impl FnMut() -> F,
) -> anyhow::Result<T> {
    loop {
        match attempt().await {
            // As the client words a status; a port may have these digits too.
            Err(busy) if format!("{busy:#}").contains(": 429: {") => sleep(AGAIN).await,
            done => return done,
        }
    }
}

async fn sign_up(api: Api, number: usize, seed: u64, contact: Arc<(Session, String)>) -> Somebody {
    let mut dice = Dice(seed ^ (number as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    // A name that was taken before the sign-in was refused is another's.
    let sign_up = || {
        let (name, api) = (handle("any"), &api);
        async move { Ok((api.sign_up(&name, "Ada").await?, name)) }
    };
    let (session, handle) = patiently(sign_up).await.unwrap();
    let scopes = ["alerts", "emergency_location"];
    api.link(&session, &contact.0, &contact.1, &scopes).await.unwrap();
    let phones = vec![Phone::new(session, 0, &mut dice)];
    Somebody { number, dice, handle, phones, emergency: None }
}

impl Somebody {
    /// Takes some fixes on one of the phones, and sends them.
    async fn go_on(&mut self, api: &Api, cuts: bool) -> anyhow::Result<()> {
        for phone in &mut self.phones {
            for _ in 0..=self.dice.roll(3) {
                phone.take(&mut self.dice);
            }
            phone.send(api, &mut self.dice, cuts).await?;
        }
        Ok(())
    }

    /// What happens while the server may die.
    async fn first(mut self, api: Api) -> Self {
        // Whatever breaks off is gone on with when the server is there again.
        let _: anyhow::Result<()> = async {
            for _ in 0..=self.dice.roll(3) {
                self.go_on(&api, true).await?;
                if self.phones.len() < 3 && self.dice.roll(2) == 0 {
                    self.add_phone(&api).await?;
                }
            }
            Ok(())
        }
        .await;
        self
    }

    /// A second phone, or the app installed anew: the device is another one, and counts from its own beginning.
    async fn add_phone(&mut self, api: &Api) -> anyhow::Result<()> {
        let session = patiently(|| api.sign_in(&self.handle, "another")).await?;
        let phone = Phone::new(session, self.phones.len(), &mut self.dice);
        self.phones.push(phone);
        Ok(())
    }

    /// What happens afterwards, and what has to be true then.
    async fn second(mut self, api: Api, contact: Arc<(Session, String)>) -> anyhow::Result<Self> {
        if self.phones.len() < 3 && self.dice.roll(2) == 0 {
            self.add_phone(&api).await?;
        }
        if self.dice.roll(10) < 3 {
            self.raise(&api).await?;
        }
        self.go_on(&api, true).await?;
        for phone in &mut self.phones {
            phone.send(&api, &mut self.dice, false).await?;
        }
        self.look_at_the_track(&api).await?;
        if let Some(id) = self.emergency.clone() {
            self.look_as_a_contact(&api, &contact.0).await?;
            let path = format!("/v1/emergencies/{id}/resolve");
            api.post(&path, &self.phones[0].session.access, json!({})).await?.ok()?;
            for what in [self.path("track?", ALL), self.path("location", "")] {
                let over = api.get(&what, &contact.0.access).await?;
                ensure!(over.status == 404, "after its end a contact is shown {}", over.body);
            }
        }
        Ok(self)
    }

    async fn raise(&mut self, api: &Api) -> anyhow::Result<()> {
        let who = self.dice.roll(self.phones.len() as u64) as usize;
        let phone = &mut self.phones[who];
        phone.raised = true;
        let id = cima::id::fresh(&cima::clock::Clock::system()).to_string();
        let mut body = json!({"id": id});
        if self.dice.roll(2) == 0 {
            body["fix"] = phone.take(&mut self.dice);
        }
        if self.dice.roll(2) == 0 {
            api.post("/v1/emergencies", &phone.session.access, body).await?.ok()?;
        } else {
            body["type"] = json!("emergency");
            let opened = timeout(DEADLINE, api.stream(&phone.session.access)).await;
            let mut socket = opened.context("no stream in time")??;
            socket.send(&body).await?;
            socket.wait("accepted").await?;
        }
        self.emergency = Some(id);
        Ok(())
    }

    fn path(&self, what: &str, query: &str) -> String {
        format!("/v1/people/{}/{what}{query}", self.phones[0].session.user)
    }

    async fn places(&self, api: &Api, token: &str) -> anyhow::Result<HashMap<String, usize>> {
        let track = api.get(&self.path("track?", ALL), token).await?.ok()?;
        let mut places = HashMap::new();
        for feature in track["features"].as_array().context("no features")? {
            *places.entry(feature["geometry"]["coordinates"].to_string()).or_default() += 1;
        }
        Ok(places)
    }

    fn sent(&self) -> impl Iterator<Item = (&Phone, &Sent)> {
        self.phones.iter().flat_map(|phone| phone.sent.iter().map(move |sent| (phone, sent)))
    }

    async fn look_at_the_track(&self, api: &Api) -> anyhow::Result<()> {
        let mut places = self.places(api, &self.phones[0].session.access).await?;
        for (phone, sent) in self.sent() {
            let there = places.remove(&place(&sent.fix)).unwrap_or(0);
            let wanted = match sent.told {
                Told::Stored => there == 1,
                Told::Rejected => there == 0,
                Told::Nothing => there < 2,
            };
            ensure!(wanted, "{there} times there: {sent:?} of {phone:?}");
        }
        ensure!(places.is_empty(), "nobody sent {places:?}");
        Ok(())
    }

    async fn look_as_a_contact(&self, api: &Api, contact: &Session) -> anyhow::Result<()> {
        let seen = api.get(&self.path("location", ""), &contact.access).await?;
        let phone = self.phones.iter().find(|phone| phone.raised).context("nobody raised")?;
        for sent in phone.sent.iter().filter(|sent| sent.after_raise) {
            ensure!(sent.told == Told::Stored, "in an emergency nothing is refused: {sent:?} of {phone:?}");
        }
        let of_it = |sent: &&Sent| sent.after_raise && sent.told == Told::Stored;
        let Some(last) = phone.sent.iter().rfind(of_it) else { return Ok(()) };
        let at = json!([seen.body["fix"]["lon"], seen.body["fix"]["lat"]]).to_string();
        ensure!(at == place(&last.fix), "a contact is shown {} and not {last:?} of {phone:?}", seen.body);
        ensure!(seen.body["basis"] == "emergency", "{}", seen.body);
        // Of a clock that is set in the middle, each place was shown when it came.
        if phone.is_set() {
            return Ok(());
        }
        let trail = self.places(api, &contact.access).await?;
        for sent in phone.sent.iter().filter(of_it) {
            ensure!(trail.contains_key(&place(&sent.fix)), "a contact is not shown {sent:?} of {phone:?}");
        }
        Ok(())
    }
}

fn place(fix: &Value) -> String {
    json!([fix["lon"], fix["lat"]]).to_string()
}

async fn all_in<T: 'static>(tasks: &mut JoinSet<T>) -> Vec<T> {
    let mut done = Vec::with_capacity(tasks.len());
    while let Some(one) = tasks.join_next().await {
        done.push(one.unwrap());
    }
    done
}

async fn all_of<T: Send + 'static>(
    each: impl Iterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    all_in(&mut each.collect()).await
}

/// The end of what the server has logged.
fn last_of(log: &Path) -> String {
    let all = std::fs::read_to_string(log).unwrap_or_default();
    all.lines().rev().take(40).collect::<Vec<_>>().join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_client_was_told_is_true() {
    // In a short run half of a tenth of them on each store.
    let (seed, wanted) = (seed(), if proving() { 100_000 } else { 5_000 });
    let only: Option<usize> = std::env::var("CIMA_CLIENT").ok().and_then(|n| n.parse().ok());
    let folder = TempDir::new().unwrap();
    let log = folder.path().join("log");
    let noted = || Stdio::from(File::options().create(true).append(true).open(&log).unwrap());
    let mut server = Server::start_with(&folder, &[], noted()).await;
    let mut dice = Dice(seed);
    let (mut played, mut shown) = (Played::default(), 0);
    while played.clients < wanted {
        let name = handle("bo");
        let contact = Arc::new((server.api.sign_up(&name, "Bo").await.unwrap(), name));
        let numbers = (played.people..played.people + AT_ONCE).filter(|n| only.is_none_or(|only| only == *n));
        let signed_up = numbers.map(|n| sign_up(server.api.clone(), n, seed, Arc::clone(&contact)));
        let people = timeout(PATIENCE, all_of(signed_up)).await.expect("nobody can sign up");
        let api = &server.api;
        let mut began: JoinSet<Somebody> =
            people.into_iter().map(|somebody| somebody.first(api.clone())).collect();
        sleep(Duration::from_millis(dice.roll(1_500))).await;
        server.kill();
        let people = timeout(PATIENCE, all_in(&mut began)).await.expect("a call without an end");
        server = Server::start_with(&folder, &[], noted()).await;
        let ended = people.into_iter().map(|somebody| {
            let (number, contact) = (somebody.number, Arc::clone(&contact));
            let second = somebody.second(server.api.clone(), contact);
            async move {
                let done = timeout(PATIENCE, second).await.context("it takes for ever").flatten();
                done.with_context(|| format!("CIMA_SEED={seed} CIMA_CLIENT={number}"))
            }
        });
        for somebody in all_of(ended).await {
            let somebody = somebody.unwrap_or_else(|error| panic!("{error:?}\n{}", last_of(&log)));
            played.clients += somebody.phones.len();
            played.stored += somebody.sent().filter(|(_, sent)| sent.told == Told::Stored).count();
            played.raised += usize::from(somebody.emergency.is_some());
        }
        played.people += AT_ONCE;
        if only.is_some() && played.people > only.unwrap_or(0) {
            break;
        }
        if played.clients * 10 / wanted > shown {
            shown = played.clients * 10 / wanted;
            println!("{} of {wanted} clients", played.clients);
        }
    }
    let Played { people, clients, stored, raised } = played;
    println!(
        "{clients} clients of {people} people, {stored} fixes told stored, 0 lost, 0 doubled, {raised} emergencies, {} kills",
        people / AT_ONCE
    );
}
