//! What a tool is, and the wrapper for those that work on files.

use std::marker::PhantomData;
use std::sync::Arc;

use async_trait::async_trait;
use midplane_core::schema::Schema;
use midplane_core::{Error, Result};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::watch;

use super::HostTools;
use super::answer::Answer;
use super::files::Files;
use super::schema;

/// The right that a tool rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Needs {
    /// None: it stays inside the host.
    Nothing,
    /// Looking at the workspace. Such calls can run side by side.
    Read,
    /// Changing it.
    Write,
    /// The shell.
    Shell,
    /// None here: what it does is done by a server that was granted.
    Elsewhere {
        /// Whether the server says that it changes nothing.
        looks: bool,
    },
}

/// One tool.
#[async_trait]
pub(super) trait Tool: Send + Sync {
    /// Its name, unique in the run.
    fn name(&self) -> &str;
    /// What it does, for a model.
    fn description(&self) -> &str;
    /// JSON Schema of its arguments, an object schema.
    fn input_schema(&self) -> &Value;
    /// The right that it rests on.
    fn needs(&self) -> Needs;
    /// The grants that it rests on beside those of [`Self::needs`].
    fn grants(&self) -> Option<String> {
        None
    }
    /// The arguments, if they fit the schema; else `invalid`, naming the field.
    fn check(&self, arguments: Value) -> Result<Value>;
    /// Does it. An error becomes a failed answer. Ends soon after `stop` is set.
    async fn run(&self, arguments: Value, host: &HostTools, stop: &Stop) -> Result<Answer>;
}

/// Tells a tool that nobody waits for it any more.
#[derive(Clone)]
pub(super) struct Stop(Arc<watch::Sender<bool>>);

impl Stop {
    pub(super) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    pub(super) fn set(&self) {
        self.0.send_replace(true);
    }

    /// An error once it is set; for loops that block a thread.
    pub(super) fn check(&self) -> Result<()> {
        if *self.0.borrow() { Err(stopped()) } else { Ok(()) }
    }

    /// Waits until it is set.
    pub(super) async fn wait(&self) {
        // It holds the sender itself, so the channel stays open.
        let _ = self.0.subscribe().wait_for(|set| *set).await;
    }
}

/// What a tool answers that was stopped.
pub(super) fn stopped() -> Error {
    Error::cancelled("cancelled", "cancelled")
}

/// A tool on files, as plain blocking code.
pub(super) trait FileTool: Send + Sync + 'static {
    /// Its arguments. Fields that the schema does not require are options.
    type Arguments: DeserializeOwned + Send + 'static;
    const NAME: &'static str;
    const DESCRIPTION: &'static str;
    const NEEDS: Needs;

    /// JSON Schema of the arguments, without more fields than these.
    fn schema() -> Value;

    /// Does it. Asks `stop` in every loop over something that can be long.
    fn run(arguments: Self::Arguments, files: &Files, stop: &Stop) -> Result<Answer>;
}

/// Makes a tool of a [`FileTool`].
pub(super) struct OnFiles<T> {
    schema: Value,
    validator: Schema,
    tool: PhantomData<fn() -> T>,
}

impl<T: FileTool> OnFiles<T> {
    pub(super) fn new() -> Self {
        let schema = T::schema();
        let validator = Schema::new(&schema).expect("the schema is a constant, and a test compiles each");
        Self { schema, validator, tool: PhantomData }
    }
}

#[async_trait]
impl<T: FileTool> Tool for OnFiles<T> {
    fn name(&self) -> &str {
        T::NAME
    }

    fn description(&self) -> &str {
        T::DESCRIPTION
    }

    fn input_schema(&self) -> &Value {
        &self.schema
    }

    fn needs(&self) -> Needs {
        T::NEEDS
    }

    fn check(&self, arguments: Value) -> Result<Value> {
        schema::check_arguments(&self.validator, arguments)
    }

    async fn run(&self, arguments: Value, host: &HostTools, stop: &Stop) -> Result<Answer> {
        let arguments: T::Arguments = serde_json::from_value(arguments)
            .map_err(|error| Error::invalid("arguments", format!("the arguments do not fit: {error}")))?;
        let files = host.files.clone().ok_or_else(|| Error::denied("tool", "this run has no workspace"))?;
        let stop = stop.clone();
        tokio::task::spawn_blocking(move || T::run(arguments, &files, &stop))
            .await
            .map_err(|error| Error::internal("tool", format!("the tool `{}` broke: {error}", T::NAME)))?
    }
}
