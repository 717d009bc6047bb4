//! What stands in for a provider: it keeps what it is sent, checks it as the provider would, and answers as it is told.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, Version};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use cima::clock::{Clock, Monotonic};
use cima::runtime::detach;
use serde_json::Value;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};

/// What a fake does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Play {
    /// What the provider does: checks it and takes it.
    Take,
    /// Answers like this.
    Say(u16, Option<u64>, Value),
    /// Takes it after so long.
    Slow(Duration),
    /// Answers like this once it is let go.
    Held(Arc<Notify>, u16, Value),
    /// Never answers.
    Hang,
}

/// A request that came.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    pub(crate) at: Monotonic,
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Got {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
    }
}

/// What the provider says to a request that it checked: a status and a body.
pub(crate) type Checked = (u16, Value);

/// The memory and the script of a fake.
#[derive(Clone)]
pub(crate) struct Fake {
    pub(crate) addr: SocketAddr,
    inner: Arc<Inner>,
}

struct Inner {
    clock: Clock,
    script: Mutex<VecDeque<Play>>,
    usual: Mutex<Play>,
    got: watch::Sender<Vec<Got>>,
    check: Box<dyn Fn(&Got) -> Checked + Send + Sync>,
}

impl Fake {
    fn new(addr: SocketAddr, clock: &Clock, check: impl Fn(&Got) -> Checked + Send + Sync + 'static) -> Self {
        let inner = Inner {
            clock: clock.clone(),
            script: Mutex::default(),
            usual: Mutex::new(Play::Take),
            got: watch::channel(Vec::new()).0,
            check: Box::new(check),
        };
        Self { addr, inner: Arc::new(inner) }
    }

    /// Over plain HTTP.
    pub(crate) async fn start(
        clock: &Clock,
        check: impl Fn(&Got) -> Checked + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let fake = Self::new(listener.local_addr().unwrap(), clock, check);
        let router = fake.router();
        detach("fake", async move { axum::serve(listener, router).await.unwrap() });
        fake
    }

    /// APNs: over TLS, HTTP/2 alone, with this certificate.
    pub(crate) fn start_apns(
        clock: &Clock,
        tls: rustls::ServerConfig,
        check: impl Fn(&Got) -> Checked + Send + Sync + 'static,
    ) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let fake = Self::new(listener.local_addr().unwrap(), clock, check);
        let router = fake.router().layer(from_fn(with_apns_id));
        let tls = axum_server::tls_rustls::RustlsConfig::from_config(Arc::new(tls));
        detach("fake", async move {
            let server = axum_server::from_tcp_rustls(listener, tls).unwrap();
            server.serve(router.into_make_service()).await.unwrap();
        });
        fake
    }

    fn router(&self) -> Router {
        let fake = self.clone();
        Router::new().fallback(move |request: Request| {
            let fake = fake.clone();
            async move { fake.answer(request).await }
        })
    }

    async fn answer(&self, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let got = Got {
            at: self.inner.clock.monotonic(),
            method: parts.method,
            path: parts.uri.path().to_owned(),
            version: parts.version,
            headers: parts.headers,
            body: to_bytes(body, 1 << 20).await.unwrap().to_vec(),
        };
        let (status, said) = (self.inner.check)(&got);
        // What asks for a token is none of the script's business.
        if got.path == "/token" {
            return answer(status, None, &said);
        }
        let next = self.inner.script.lock().unwrap().pop_front();
        let play = next.unwrap_or_else(|| self.inner.usual.lock().unwrap().clone());
        let keep = || self.inner.got.send_modify(|all| all.push(got.clone()));
        match play {
            Play::Take => keep(),
            Play::Say(status, retry_after, said) => {
                keep();
                return answer(status, retry_after, &said);
            }
            Play::Slow(wait) => {
                keep();
                tokio::time::sleep(wait).await;
            }
            Play::Held(go, status, said) => {
                keep();
                go.notified().await;
                return answer(status, None, &said);
            }
            Play::Hang => {
                keep();
                std::future::pending::<()>().await;
            }
        }
        answer(status, None, &said)
    }

    /// What it does with the next requests, in this order.
    pub(crate) fn script(&self, plays: impl IntoIterator<Item = Play>) {
        self.inner.script.lock().unwrap().extend(plays);
    }
    /// What it does when no script says otherwise.
    pub(crate) fn usually(&self, play: Play) {
        *self.inner.usual.lock().unwrap() = play;
    }
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }
    pub(crate) fn got(&self) -> Vec<Got> {
        self.inner.got.borrow().clone()
    }
    pub(crate) fn forget(&self) {
        self.inner.got.send_modify(Vec::clear);
    }
    /// Waits until it has got something of which this is true.
    pub(crate) async fn until(&self, what: &str, done: impl Fn(&[Got]) -> bool) -> Vec<Got> {
        let mut got = self.inner.got.subscribe();
        let done = got.wait_for(|all| done(all));
        match tokio::time::timeout(Duration::from_secs(30), done).await {
            Ok(all) => all.unwrap().clone(),
            Err(_) => panic!("{what}: {:#?}", self.got()),
        }
    }
    /// Waits until it has got so many.
    pub(crate) async fn until_count(&self, count: usize) -> Vec<Got> {
        self.until(&format!("{count} requests"), |all| all.len() >= count).await
    }
}

/// Every answer of APNs has the id that its request was given.
async fn with_apns_id(request: Request, next: Next) -> Response {
    let given = request.headers().get("apns-id").cloned();
    let mut response = next.run(request).await;
    response.headers_mut().extend(given.map(|id| (HeaderName::from_static("apns-id"), id)));
    response
}

fn answer(status: u16, retry_after: Option<u64>, said: &Value) -> Response {
    let mut response =
        if said.is_null() { Body::empty().into_response() } else { axum::Json(said.clone()).into_response() };
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    if let Some(seconds) = retry_after {
        response.headers_mut().insert("retry-after", seconds.into());
    }
    response
}
