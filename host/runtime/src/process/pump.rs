//! From a child's output pipe to whoever keeps the bytes: cleaned of secrets, no faster than there is room, and never
//! longer than the child lives.
//!
//! A pipe is at its end when *every* process that holds it has closed it, and what a child left in the background may
//! hold it for ever. So after the leader has ended, the end of the pipe is awaited a moment longer; then what is in
//! the pipe is taken out, which is all that the leader wrote, and the rest is nobody's.

use std::os::fd::AsFd;
use std::time::Duration;

use midplane_core::redact::{Redactor, Stream};
use midplane_engine::ports::Exit;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::watch;

/// How much is read at once, in bytes.
const CHUNK_BYTES: usize = 64 * 1024;
/// How long after the leader's end the end of its pipes is awaited.
const LINGER: Duration = Duration::from_millis(250);
/// The most that a pipe holds, in bytes: what Linux lets a user without privileges set.
const PIPE_BYTES_MAX: usize = 1024 * 1024;

/// How long a quiet pipe holds back an end that could begin a secret.
const QUIET: Duration = Duration::from_millis(100);
/// The most of such an end that is ever given out, in bytes. More is no chance, and is held until more comes: so this is
/// also all that is seen of a value that is written slowly.
const RELEASED_BYTES_MAX: usize = 4;

/// Where the bytes of one stream go.
pub(crate) trait Sink: Send + Sync {
    /// Waits until it can take some bytes, and says how many; never 0.
    fn room(&self) -> impl Future<Output = usize> + Send;
    /// Takes bytes; perhaps more than there was room for, by the length of a replacement.
    fn push(&self, bytes: &[u8]);
}

/// Moves a stream until its end, as the head of this file defines it. Whoever has to stop earlier drops it.
pub(crate) async fn pump(
    mut pipe: impl AsyncRead + AsFd + Unpin + Send,
    redactor: &Redactor,
    mut exit: watch::Receiver<Option<Exit>>,
    sink: &impl Sink,
) {
    let mut stream = Stream::new(redactor);
    let mut buffer = vec![0; CHUNK_BYTES];
    let settled = async move {
        // An error says that nobody watches any more: the same.
        let _ = exit.wait_for(Option::is_some).await;
        tokio::time::sleep(LINGER).await;
    };
    tokio::pin!(settled);
    loop {
        let room = sink.room().await.min(CHUNK_BYTES);
        tokio::select! {
            // A process in the background that never stops writing must not keep this going.
            biased;
            () = &mut settled => {
                take_rest(&pipe, &mut buffer, &mut stream, sink).await;
                break;
            }
            read = pipe.read(&mut buffer[..room]) => match read {
                Ok(0) | Err(_) => break,
                Ok(count) => sink.push(&stream.push(&buffer[..count])),
            },
            // A program that has said all of a message waits for its answer; the message may end in a letter with which
            // some form of a value begins, and nobody would ever answer it.
            () = tokio::time::sleep(QUIET), if stream.held_bytes() > 0 && stream.open_bytes() <= RELEASED_BYTES_MAX => {
                sink.push(&stream.release());
            }
        }
    }
    sink.push(&stream.finish());
}

/// Takes what is in the pipe now. Read from the descriptor itself: the runtime may not have noticed yet that it is ready.
async fn take_rest(pipe: &impl AsFd, buffer: &mut [u8], stream: &mut Stream, sink: &impl Sink) {
    let mut left = PIPE_BYTES_MAX;
    while left > 0 {
        let room = sink.room().await.min(buffer.len()).min(left);
        match rustix::io::read(pipe, &mut buffer[..room]) {
            Ok(0) => break,
            Ok(count) => {
                left -= count;
                sink.push(&stream.push(&buffer[..count]));
            }
            Err(rustix::io::Errno::INTR) => {}
            // Empty for now, and for good as far as the leader is concerned.
            Err(_) => break,
        }
    }
}
