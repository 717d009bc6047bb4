//! Nothing fails.

use super::stage::judge;
use super::{On, Scale, Stage};
use crate::table::Row;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Between two SOS.
const PAUSE: Duration = Duration::from_millis(200);
/// Before the first, for the phones to come.
const WARM_UP: Duration = Duration::from_secs(3);

/// From the frame to the alert on another node.
pub(super) async fn none(scale: &Scale, on: On) -> anyhow::Result<Row> {
    let stage = Stage::set(on).await;
    let time = scale.lasting(Duration::from_secs(60), Duration::from_secs(6));
    let circle = stage.circle(time.div_duration_f64(PAUSE).ceil() as usize).await?;
    let background = stage.background(scale).await?;
    sleep(WARM_UP).await;
    circle.raise_every(PAUSE, Instant::now() + time, 0).await;
    let streamed = background.end(&stage.api()).await?;
    let mut row = Row::new("none", on.word());
    let told = circle.read(|books, heard| books.told_after(heard));
    row.add_told(&told, Some(scale.limit(10.0)), Some(scale.limit(50.0)));
    judge(&mut row, &circle, &streamed);
    drop(circle);
    stage.stop().await;
    Ok(row)
}
