//! `ws`: a websocket to a port that the plugin's own child opened.

use std::time::Duration;

use wasmtime::component::Resource;

use super::process::ChildHandle;
use super::{Answer, answer, owned};
use crate::bindings::ws::{Frame, Host, HostSocket, Received};
use crate::control::cancelled;
use crate::data::Data;
use crate::ports;

/// A guest's handle of a websocket. Dropping it closes the connection.
#[expect(unreachable_pub, reason = "named by generated code, which is public in form")]
pub struct SocketHandle {
    socket: Box<dyn ports::Socket>,
    /// Whether its reader was told of the cancel; it is told once.
    cancel_said: bool,
    /// How many signals its reader was told of; each is told once.
    signals_said: u64,
}

impl Host for Data {
    async fn connect(
        &mut self,
        child: Resource<ChildHandle>,
        port: u16,
        path: String,
        headers: Vec<(String, String)>,
    ) -> Answer<Resource<SocketHandle>> {
        let child = &self.table.get(&child)?.child;
        match self.ports.control.guard(child.connect(ports::Dial { port, path, headers })).await {
            Ok(socket) => owned(&mut self.table, SocketHandle { socket, cancel_said: false, signals_said: 0 }),
            Err(error) => answer(Err(error)),
        }
    }
}

impl HostSocket for Data {
    async fn send(&mut self, this: Resource<SocketHandle>, frame: Frame) -> Answer<()> {
        answer(self.table.get(&this)?.socket.send(match frame {
            Frame::Text(text) => ports::Frame::Text(text),
            Frame::Binary(bytes) => ports::Frame::Binary(bytes),
        }))
    }

    async fn receive(&mut self, this: Resource<SocketHandle>, timeout_ms: u32) -> Answer<Received> {
        let control = self.ports.control.clone();
        let handle = self.table.get_mut(&this)?;
        if control.is_cancelled() && !std::mem::replace(&mut handle.cancel_said, true) {
            return answer(Err(cancelled()));
        }
        tokio::select! {
            // Messages first: what is there is given before a signal or a time-out is told.
            biased;
            frame = handle.socket.receive() => answer(frame.map(to_wit)),
            () = control.cancelled(), if !handle.cancel_said => {
                handle.cancel_said = true;
                answer(Err(cancelled()))
            }
            () = control.signal_waiting(&mut handle.signals_said) => Ok(Ok(Received::Signal)),
            () = tokio::time::sleep(Duration::from_millis(timeout_ms.into())) => Ok(Ok(Received::Timeout)),
        }
    }

    async fn drop(&mut self, this: Resource<SocketHandle>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

fn to_wit(frame: Option<ports::Frame>) -> Received {
    match frame {
        Some(ports::Frame::Text(text)) => Received::Frame(Frame::Text(text)),
        Some(ports::Frame::Binary(bytes)) => Received::Frame(Frame::Binary(bytes)),
        None => Received::Closed,
    }
}
