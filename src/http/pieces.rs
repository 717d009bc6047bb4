//! Answers that are written piece by piece as they are read, so that a track of years costs the memory of a page.

use super::Problem;
use axum::body::{Body, Bytes};
use futures_util::{StreamExt, stream};
use std::io;

/// An answer on its way.
pub(super) trait Pieces: Send + Sized + 'static {
    /// The next piece, and what is left unless that was the last.
    fn next(self) -> impl Future<Output = Result<(Bytes, Option<Self>), Problem>> + Send;
}

/// The whole answer. Its first piece is read before anything is said, so that a failure of the store is an answer; what fails
/// later breaks the answer off, and is seen to be broken.
pub(super) async fn body<P: Pieces>(begin: P) -> Result<Body, Problem> {
    let (first, rest) = begin.next().await?;
    let rest = stream::try_unfold(rest, |rest: Option<P>| async move {
        let Some(rest) = rest else { return Ok(None) };
        // What failed is logged where it became a problem.
        rest.next().await.map(Some).map_err(|_| io::Error::other("the answer broke off"))
    });
    Ok(Body::from_stream(stream::once(async move { Ok(first) }).chain(rest)))
}
