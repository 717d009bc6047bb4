//! What changes an emergency is sent as a hint and once more over a Redis stream. A reader goes on after the last entry it
//! has seen, so a broken connection leaves no gap, and it notices when the stream was lost.

use super::Shared;
use super::connect::{ANSWER, commands, keep, within};
use redis::aio::MultiplexedConnection;
use redis::streams::{StreamInfoStreamReply, StreamMaxlen, StreamReadOptions, StreamReadReply};
use redis::{AsyncCommands, ErrorKind, RedisResult, ServerErrorKind};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

/// The stream that every node reads.
const STREAM: &str = "cima:emergencies";
/// The one field of an entry.
const FIELD: &str = "e";
/// About how many entries Redis keeps.
const KEPT: usize = 10_000;
/// Entries in one round trip.
const BATCH: usize = 256;
/// A read that finds nothing waits so long. That it ends is also the sign that the server lives.
const BLOCK: Duration = Duration::from_secs(1);

/// Adds what waits to the stream until the node stops.
pub(super) async fn write(shared: Arc<Shared>, stop: CancellationToken) {
    keep("lane-out", &stop, || add(&shared)).await;
}

/// What cannot be added is kept for the next connection. A batch that was not answered may have been added all the same:
/// readers skip a message that they have seen.
async fn add(shared: &Shared) -> RedisResult<()> {
    let mut out = commands(&shared.client, ANSWER).await?;
    metrics::gauge!("cima_bus_up", "link" => "lane-out").set(1.0);
    loop {
        let batch = shared.lane.take(BATCH).await;
        let mut pipe = redis::pipe();
        for message in &batch {
            let fields = [(FIELD, message.as_slice())];
            pipe.xadd_maxlen(STREAM, StreamMaxlen::Approx(KEPT), "*", &fields).ignore();
        }
        if let Err(error) = within::<()>(ANSWER, pipe.query_async(&mut out)).await {
            shared.lane.put_back(batch);
            return Err(error);
        }
    }
}

/// How far a reader is, and of which stream.
#[derive(Default)]
struct Progress {
    /// The run of the server; after a restart it may have other data.
    run: String,
    /// The last entry seen; `None` before the first connection.
    last: Option<String>,
}

/// Reads the stream until the node stops.
pub(super) async fn read(shared: Arc<Shared>, stop: CancellationToken) {
    let progress = Mutex::new(Progress::default());
    keep("lane-in", &stop, || async { follow(&shared, &mut *progress.lock().await).await }).await;
}

async fn follow(shared: &Shared, progress: &mut Progress) -> RedisResult<()> {
    let mut conn = commands(&shared.client, BLOCK + ANSWER).await?;
    resume_from(shared, &mut conn, progress).await?;
    metrics::gauge!("cima_bus_up", "link" => "lane-in").set(1.0);
    let options = StreamReadOptions::default().block(BLOCK.as_millis() as usize).count(BATCH);
    loop {
        let last = progress.last.get_or_insert_with(|| "0-0".to_owned());
        let from = [last.as_str()];
        let read = conn.xread_options(&[STREAM], &from, &options);
        let read = within::<Option<StreamReadReply>>(BLOCK + ANSWER, read);
        let Some(reply) = read.await? else { continue };
        for entry in reply.keys.into_iter().flat_map(|stream| stream.ids) {
            if let Some(message) = entry.get::<Vec<u8>>(FIELD) {
                shared.receive(&message);
            }
            *last = entry.id;
        }
    }
}

/// Finds where to go on: from the end at the first connection, later from the last entry seen; from the beginning if the
/// stream is another one than was read.
async fn resume_from(
    shared: &Shared,
    conn: &mut MultiplexedConnection,
    progress: &mut Progress,
) -> RedisResult<()> {
    let run = run_id(conn).await?;
    let end = end(conn).await?;
    let Some(last) = &progress.last else {
        *progress = Progress { run, last: Some(end) };
        return Ok(());
    };
    if order(&end) < order(last) {
        tracing::warn!("the stream of emergencies begins anew; this node resyncs");
        progress.last = Some("0-0".to_owned());
        shared.resync_here("stream_lost");
    } else if run != progress.run {
        tracing::warn!("Redis was started again and may have lost something; this node resyncs");
        shared.resync_here("redis_restarted");
    }
    progress.run = run;
    Ok(())
}

async fn run_id(conn: &mut MultiplexedConnection) -> RedisResult<String> {
    let info: String = within(ANSWER, redis::cmd("INFO").arg("server").query_async(conn)).await?;
    let run = info.lines().find_map(|line| line.strip_prefix("run_id:"));
    Ok(run.unwrap_or_default().trim().to_owned())
}

/// The newest id that the stream has given.
async fn end(conn: &mut MultiplexedConnection) -> RedisResult<String> {
    match within::<StreamInfoStreamReply>(ANSWER, conn.xinfo_stream(STREAM)).await {
        Ok(info) => Ok(info.last_generated_id),
        // There is no stream until somebody adds to it.
        Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::ResponseError) => {
            Ok("0-0".to_owned())
        }
        Err(error) => Err(error),
    }
}

/// An entry's id, `ms-n`, in the order of the stream.
fn order(id: &str) -> (u64, u64) {
    let (ms, n) = id.split_once('-').unwrap_or((id, "0"));
    (ms.parse().unwrap_or(0), n.parse().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::order;

    #[test]
    fn ids_are_ordered_as_numbers() {
        assert!(order("999-0") < order("1000-0"));
        assert!(order("1000-9") < order("1000-10"));
        assert!(order("0-0") < order("0-1"));
    }
}
