//! `process`: a granted local program, driven through its pipes.

use std::time::Duration;

use wasmtime::component::Resource;

use super::blob::READ_BYTES_MAX;
use super::{Answer, answer, owned};
use crate::bindings::process::{Command, Host, HostChild, Output};
use crate::bindings::types::{Exit, StopMode};
use crate::control::cancelled;
use crate::data::Data;
use crate::ports;

/// A guest's handle of a child. Dropping it kills the child's process group.
#[expect(unreachable_pub, reason = "named by generated code, which is public in form")]
pub struct ChildHandle {
    pub(super) child: Box<dyn ports::Child>,
    /// Whether this child's reader was told of the cancel; it is told once.
    cancel_said: bool,
    /// How many signals its reader was told of; each is told once.
    signals_said: u64,
}

impl Host for Data {
    async fn spawn(&mut self, command: Command) -> Answer<Resource<ChildHandle>> {
        let command =
            ports::Command { argv: command.argv, cwd: command.cwd, env: command.env, secret_env: command.secret_env };
        let port = self.ports.process.clone();
        match self.ports.control.guard(port.spawn(command)).await {
            Ok(child) => {
                let handle = ChildHandle { child, cancel_said: false, signals_said: 0 };
                owned(&mut self.table, handle)
            }
            Err(error) => answer(Err(error)),
        }
    }
}

impl HostChild for Data {
    async fn write(&mut self, this: Resource<ChildHandle>, data: Vec<u8>) -> Answer<()> {
        answer(self.table.get(&this)?.child.write(data))
    }

    async fn close_stdin(&mut self, this: Resource<ChildHandle>) -> wasmtime::Result<()> {
        self.table.get(&this)?.child.close_stdin();
        Ok(())
    }

    async fn next(&mut self, this: Resource<ChildHandle>, max_bytes: u32, timeout_ms: u32) -> Answer<Output> {
        let control = self.ports.control.clone();
        let handle = self.table.get_mut(&this)?;
        if control.is_cancelled() && !std::mem::replace(&mut handle.cancel_said, true) {
            return answer(Err(cancelled()));
        }
        let max_bytes = max_bytes.clamp(1, READ_BYTES_MAX) as usize;
        tokio::select! {
            // Output first: what is there is given before a signal or a time-out is told.
            biased;
            output = handle.child.next(max_bytes) => answer(output.map(to_wit)),
            () = control.cancelled(), if !handle.cancel_said => {
                handle.cancel_said = true;
                answer(Err(cancelled()))
            }
            () = control.signal_waiting(&mut handle.signals_said) => Ok(Ok(Output::Signal)),
            () = tokio::time::sleep(Duration::from_millis(timeout_ms.into())) => Ok(Ok(Output::Timeout)),
        }
    }

    async fn stop(&mut self, this: Resource<ChildHandle>, how: StopMode) -> Answer<()> {
        let how = match how {
            StopMode::Interrupt => ports::StopMode::Interrupt,
            StopMode::Terminate => ports::StopMode::Terminate,
            StopMode::Kill => ports::StopMode::Kill,
        };
        answer(self.table.get(&this)?.child.stop(how))
    }

    async fn drop(&mut self, this: Resource<ChildHandle>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

fn to_wit(output: ports::Output) -> Output {
    match output {
        ports::Output::Stdout(bytes) => Output::Stdout(bytes),
        ports::Output::Stderr(bytes) => Output::Stderr(bytes),
        ports::Output::Exited(ports::Exit::Code(code)) => Output::Exited(Exit::Code(code)),
        ports::Output::Exited(ports::Exit::Signal(name)) => Output::Exited(Exit::Signal(name)),
    }
}
