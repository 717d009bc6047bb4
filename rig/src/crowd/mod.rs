//! Many people whose apps are open, and who do nothing: in processes of their own, because one may not open so many files.

pub mod people;

use anyhow::{Context, ensure};
use cima::client::Api;
use people::EACH;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// Sockets of one process, at most.
const PART: usize = 8_000;
/// For all of them to be there.
const GATHERED: Duration = Duration::from_secs(300);

/// What a part has said last.
#[derive(Clone, Copy, Default)]
struct Said {
    open: usize,
    closes: usize,
    answers: usize,
}

/// Their sockets; they come back when they are closed, with jitter.
pub struct Crowd {
    size: usize,
    said: Arc<Mutex<Vec<Said>>>,
    inputs: tokio::sync::Mutex<Vec<ChildStdin>>,
    _children: Vec<Child>,
    _readers: JoinSet<()>,
}

impl Crowd {
    /// So many, in turns on these nodes; they sign up at `rest`. The running program is `cima-rig`.
    ///
    /// # Errors
    /// When they cannot be gathered.
    pub async fn gather(rest: &Api, nodes: &[Api], size: usize) -> anyhow::Result<Self> {
        let parts = size.div_ceil(PART);
        let said = Arc::new(Mutex::new(vec![Said::default(); parts]));
        let (mut inputs, mut children, mut readers) = (Vec::new(), Vec::new(), JoinSet::new());
        for part in 0..parts {
            let (from, to) = (part * size / parts, (part + 1) * size / parts);
            let mut command = Command::new(std::env::current_exe()?);
            command.args(["crowd", "--rest", rest.base()]);
            command.args(["--from", &from.to_string(), "--size", &(to - from).to_string()]);
            for node in nodes {
                command.args(["--node", node.base()]);
            }
            let mut child =
                command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
            inputs.push(child.stdin.take().context("no input")?);
            let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
            children.push(child);
            let said = Arc::clone(&said);
            readers.spawn(async move {
                while let Ok(Some(line)) = lines.next_line().await {
                    let counts: Vec<usize> = line.split(' ').flat_map(str::parse).collect();
                    if let [open, closes, answers] = counts[..] {
                        said.lock().unwrap()[part] = Said { open, closes, answers };
                    }
                }
            });
        }
        let inputs = tokio::sync::Mutex::new(inputs);
        let mut crowd = Self { size, said, inputs, _children: children, _readers: readers };
        let began = Instant::now();
        while crowd.open() < size {
            ensure!(began.elapsed() < GATHERED, "only {} of {size} sockets are open", crowd.open());
            for child in &mut crowd._children {
                ensure!(child.try_wait()?.is_none(), "a part of the crowd could not be gathered");
            }
            sleep(Duration::from_millis(100)).await;
        }
        Ok(crowd)
    }

    fn sum(&self, of: impl Fn(&Said) -> usize) -> usize {
        self.said.lock().unwrap().iter().map(of).sum()
    }

    /// How many sockets are open.
    pub fn open(&self) -> usize {
        self.sum(|said| said.open)
    }

    /// How often one ended so far.
    pub fn closes(&self) -> usize {
        self.sum(|said| said.closes)
    }

    /// How long it takes from now until all are open, and those that are asked are served; `None` if not in time.
    pub async fn as_before(&self, within: Duration) -> Option<Duration> {
        let (began, asked) = (Instant::now(), self.size.div_ceil(EACH));
        while began.elapsed() < within {
            for input in self.inputs.lock().await.iter_mut() {
                // A part that has ended has no open sockets any more.
                let _ = input.write_all(b"ask\n").await;
            }
            for _ in 0..20 {
                sleep(Duration::from_millis(50)).await;
                if self.open() == self.size && self.sum(|said| said.answers) >= asked {
                    return Some(began.elapsed());
                }
            }
        }
        None
    }
}
