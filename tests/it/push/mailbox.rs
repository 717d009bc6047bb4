//! A mail server that keeps what it is sent.

use cima::runtime::detach;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A mail as it came.
#[derive(Clone, Debug)]
pub(crate) struct Mail {
    pub(crate) to: String,
    pub(crate) text: String,
}

#[derive(Clone)]
pub(crate) struct MailServer {
    pub(crate) addr: SocketAddr,
    /// What it says to the next recipients, in this order; then it takes them.
    refusals: Arc<Mutex<VecDeque<&'static str>>>,
    got: Arc<watch::Sender<Vec<Mail>>>,
}

impl MailServer {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            addr: listener.local_addr().unwrap(),
            refusals: Arc::default(),
            got: Arc::new(watch::channel(Vec::new()).0),
        };
        let serving = server.clone();
        detach("mail server", async move {
            while let Ok((socket, _)) = listener.accept().await {
                let server = serving.clone();
                detach("mail", async move {
                    // A client that goes away ends its session.
                    let _ = server.session(socket).await;
                });
            }
        });
        server
    }

    async fn session(&self, socket: TcpStream) -> std::io::Result<()> {
        let mut stream = BufReader::new(socket);
        stream.write_all(b"220 mail.test ESMTP\r\n").await?;
        let (mut to, mut line) = (String::new(), String::new());
        loop {
            line.clear();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            let word = line.get(..4).unwrap_or_default().to_ascii_uppercase();
            let answer = match word.as_str() {
                "EHLO" | "HELO" => "250-mail.test\r\n250-8BITMIME\r\n250 SMTPUTF8",
                "RCPT" => {
                    to = line.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
                    self.refusals.lock().unwrap().pop_front().unwrap_or("250 ok")
                }
                "DATA" => {
                    stream.write_all(b"354 go on\r\n").await?;
                    let mut text = String::new();
                    while !text.ends_with("\r\n.\r\n") {
                        if stream.read_line(&mut text).await? == 0 {
                            return Ok(());
                        }
                    }
                    let mail = Mail { to: to.clone(), text };
                    self.got.send_modify(|all| all.push(mail));
                    "250 taken"
                }
                "QUIT" => "221 bye",
                _ => "250 ok",
            };
            stream.write_all(format!("{answer}\r\n").as_bytes()).await?;
        }
    }

    pub(crate) fn refuse(&self, answers: impl IntoIterator<Item = &'static str>) {
        self.refusals.lock().unwrap().extend(answers);
    }
    pub(crate) fn got(&self) -> Vec<Mail> {
        self.got.borrow().clone()
    }
    pub(crate) async fn until_count(&self, count: usize) -> Vec<Mail> {
        let mut got = self.got.subscribe();
        let done = got.wait_for(|all| all.len() >= count);
        tokio::time::timeout(Duration::from_secs(30), done).await.expect("mail in time").unwrap().clone()
    }
}
