//! Time limits on futures.

use super::Runtime;
use std::future::Future;
use std::time::Duration;

/// What `future` gives, or `None` if `duration` passes first; the future is then dropped. A result wins a tie.
pub async fn timeout<T>(
    runtime: &Runtime,
    duration: Duration,
    future: impl Future<Output = T>,
) -> Option<T> {
    futures_lite::future::or(async { Some(future.await) }, async {
        runtime.sleep(duration).await;
        None
    })
    .await
}
