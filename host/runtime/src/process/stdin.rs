//! The queue of a child's standard input: a guest writes into it all or none and never waits; a task empties it into the
//! pipe. So two full pipes never wait for each other, and a message of a line protocol is never cut.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use midplane_core::{Error, Result};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;

use super::Reach;

/// Up to this size small messages are joined in the queue, in bytes.
const PIECE_BYTES_MAX: usize = 64 * 1024;

/// The queue.
pub(super) struct Stdin {
    bytes_max: usize,
    state: Mutex<State>,
    news: Notify,
}

#[derive(Default)]
struct State {
    pieces: VecDeque<Piece>,
    /// Bytes that were accepted and are not in the pipe yet, those of the piece in work included.
    bytes: usize,
    closed: bool,
}

struct Piece {
    data: Vec<u8>,
    /// Whether it has placeholders of secrets.
    secrets: bool,
}

impl Stdin {
    pub(super) fn new(bytes_max: u64) -> Self {
        let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
        Self { bytes_max, state: Mutex::default(), news: Notify::new() }
    }

    /// Queues bytes, all or none. `secrets` says that there are placeholders in them.
    pub(super) fn write(&self, data: Vec<u8>, secrets: bool) -> Result<()> {
        let mut state = self.state();
        if state.closed {
            return Err(Error::conflict("stdin-closed", "the standard input of the program is closed"));
        }
        if data.len() > self.bytes_max.saturating_sub(state.bytes) {
            let message = format!(
                "the queue of {} bytes for the program's standard input has no room for {}",
                self.bytes_max,
                data.len()
            );
            return Err(Error::limit("stdin-full", message).hint("read the program's output, then try again"));
        }
        state.bytes += data.len();
        match state.pieces.back_mut() {
            // Joined, so that many small messages do not cost much more memory than their bytes.
            Some(last) if !secrets && !last.secrets && last.data.len() + data.len() <= PIECE_BYTES_MAX => {
                last.data.extend(data);
            }
            _ if data.is_empty() => {}
            _ => state.pieces.push_back(Piece { data, secrets }),
        }
        drop(state);
        self.news.notify_one();
        Ok(())
    }

    /// Ends it after what is queued.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.news.notify_one();
    }

    /// Empties the queue into the pipe until it is closed or nobody reads any more, with the secrets put in that the
    /// program `argv` may have.
    pub(super) async fn feed(&self, mut pipe: impl AsyncWrite + Unpin, reach: &Reach, argv: &[String]) {
        loop {
            let (piece, closed) = {
                let mut state = self.state();
                (state.pieces.pop_front(), state.closed)
            };
            let Some(piece) = piece else {
                if closed {
                    return; // dropping the pipe is its end
                }
                self.news.notified().await;
                continue;
            };
            let size = piece.data.len();
            let sent = if piece.secrets {
                // A message whose secret cannot be had must not be sent without it, and the rest makes no sense then.
                match reach.filled(&piece.data, argv).await {
                    Ok(filled) => pipe.write_all(&filled).await.is_ok(),
                    Err(error) => {
                        tracing::warn!(%error, "a secret for a program's standard input cannot be had; it is closed");
                        false
                    }
                }
            } else {
                pipe.write_all(&piece.data).await.is_ok()
            };
            let mut state = self.state();
            state.bytes -= size;
            if !sent {
                *state = State { closed: true, ..State::default() };
                return;
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
