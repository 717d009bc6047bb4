//! `cima doctor`: can this machine run the server, and what is to be done where it cannot.

use crate::bus::{self, BusError};
use crate::clock::{Clock, Timestamp};
use crate::config::Config;
use crate::store;
use std::fs::{self, File};
use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// A sync to disk slower than this makes every ack slow.
const SLOW_SYNC: Duration = Duration::from_millis(50);
/// The day this was written: a clock before it is wrong.
const WRITTEN_AT: Timestamp = Timestamp::from_unix_ms(1_795_000_000_000);

/// What was found of one thing.
enum Finding {
    Good(String),
    /// It works, but somebody should look.
    Look(String),
    Bad(String),
}
use Finding::{Bad, Good, Look};

/// Checks everything and prints a line for each; exit code 1 if something is bad.
pub async fn run(config: &Config) -> ExitCode {
    let clock = Clock::system();
    let findings = [
        ("role", role(config)),
        ("data folder", data_dir(&config.data_dir)),
        ("sync to disk", sync_time(&config.data_dir, &clock)),
        ("address", address(config)),
        ("signing key", signing_key(config)),
        ("push", push(config, &clock)),
        ("clock", time(&clock)),
        ("open files", open_files()),
        ("store", store(config, &clock).await),
        ("redis", redis(config).await),
    ];
    let mut bad = 0;
    for (name, finding) in findings {
        let (mark, text) = match finding {
            Good(text) => ("ok  ", text),
            Look(text) => ("look", text),
            Bad(text) => {
                bad += 1;
                ("BAD ", text)
            }
        };
        println!("{mark} {name:<13} {text}");
    }
    println!(
        "{}",
        if bad == 0 { "cima can run here." } else { "cima cannot run here; see the lines marked BAD." }
    );
    if bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn role(config: &Config) -> Finding {
    match config.role.refusal(config.database_url.is_some(), config.redis_url.is_some()) {
        Some(refusal) => Bad(refusal),
        None => Good(config.role.to_string()),
    }
}

fn data_dir(dir: &Path) -> Finding {
    if let Err(error) = fs::create_dir_all(dir) {
        return Bad(format!("{} cannot be made: {error}; give another --data-dir", dir.display()));
    }
    Good(dir.display().to_string())
}

fn sync_time(dir: &Path, clock: &Clock) -> Finding {
    let probe = dir.join("doctor.probe");
    let write = || -> std::io::Result<Duration> {
        let mut file = File::create(&probe)?;
        let start = clock.monotonic();
        for _ in 0..10 {
            file.write_all(&[0; 512])?;
            file.sync_data()?;
        }
        Ok(clock.monotonic().since(start) / 10)
    };
    let took = write();
    // The probe may not have been made.
    let _ = fs::remove_file(&probe);
    match took {
        Ok(took) if took > SLOW_SYNC => {
            Look(format!("{took:?} each; every ack waits for one: use a faster disk"))
        }
        Ok(took) => Good(format!("{took:?} each")),
        Err(error) => Bad(format!("{error}; the data folder must be writable")),
    }
}

fn address(config: &Config) -> Finding {
    match TcpListener::bind(config.listen) {
        Ok(_) => Good(config.listen.to_string()),
        Err(error) => Bad(format!("{} cannot be used: {error}; give another --listen", config.listen)),
    }
}

fn signing_key(config: &Config) -> Finding {
    let own = config.data_dir.join("signing-key.pem");
    let file = config.signing_key_file.as_deref().unwrap_or(&own);
    match fs::read_to_string(file) {
        Ok(pem) => match crate::identity::SigningKey::from_pem(&pem) {
            Ok(_) => Good(file.display().to_string()),
            Err(error) => Bad(format!("{}: {error}", file.display())),
        },
        Err(_) if config.signing_key_file.is_none() && config.database_url.is_some() => {
            Bad("a token of one node must be good on all: give every node the same --signing-key-file".into())
        }
        Err(_) if config.signing_key_file.is_none() => {
            Good("none yet; one is made at the first start".into())
        }
        Err(error) => Bad(format!("{} cannot be read: {error}", file.display())),
    }
}

fn push(config: &Config, clock: &Clock) -> Finding {
    match crate::app::push_channels(&config.push, clock) {
        Ok(on) if on.is_empty() => {
            Look("no channel is on: contacts hear of an SOS only while their app is connected".into())
        }
        Ok(on) => Good(on),
        Err(error) => Bad(format!("{error:#}")),
    }
}

fn time(clock: &Clock) -> Finding {
    let now = clock.now();
    if now < WRITTEN_AT {
        Bad(format!("{now} is in the past; set the clock, fixes would be refused as from the future"))
    } else {
        Good(now.to_string())
    }
}

fn open_files() -> Finding {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find(|l| l.starts_with("Max open files"));
    let limit = line.and_then(|l| l.split_whitespace().nth(3)).and_then(|n| n.parse::<u64>().ok());
    match limit {
        Some(limit) if limit < 4096 => Look(format!("{limit}; a socket each: raise it with ulimit -n")),
        Some(limit) => Good(format!("{limit}, about so many sockets")),
        None => Look("not known on this system".into()),
    }
}

async fn store(config: &Config, clock: &Clock) -> Finding {
    let stores = match store::open(&config.backend(), clock.clone()).await {
        Ok(stores) => stores,
        Err(error) => return Bad(error.to_string()),
    };
    let finding = match stores.durability().await {
        Ok(durability) if durability.on_disk => Good(durability.settings),
        Ok(durability) => {
            Bad(format!("{}; what it answers would not outlive a loss of power", durability.settings))
        }
        Err(error) => Bad(error.to_string()),
    };
    stores.close().await;
    finding
}

async fn redis(config: &Config) -> Finding {
    let Some(url) = &config.redis_url else { return Good("none; this node is alone".into()) };
    match bus::reach(url).await {
        Ok(()) => Good("it answers".into()),
        // A node starts without it, and polls the store for what it does not hear.
        Err(error @ BusError::Silent(_)) => {
            Look(format!("{error}; what other nodes do shows late until it does"))
        }
        Err(error @ BusError::Address) => Bad(error.to_string()),
    }
}
