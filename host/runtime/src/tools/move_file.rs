//! `move_file`: another name or another folder for a file, a folder or a link.

use std::io;

use midplane_core::{Error, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::Answer;
use super::files::{Change, Files, sync_folder};
use super::tool::{FileTool, Needs, Stop};
use crate::workspace::RelPath;

pub(super) struct MoveFile;

#[derive(Deserialize)]
pub(super) struct Arguments {
    from: String,
    to: String,
    overwrite: Option<bool>,
}

impl FileTool for MoveFile {
    type Arguments = Arguments;
    const NAME: &'static str = "move_file";
    const DESCRIPTION: &'static str = "Moves or renames a file or folder inside the workspace. `to` is the whole new path, not a \
        folder to move into; folders on the way are made. An existing file is replaced only with `overwrite`, a folder never.";
    const NEEDS: Needs = Needs::Write;

    fn schema() -> Value {
        json!({
            "type": "object",
            "properties": {
                "from": { "type": "string", "description": "Path relative to the workspace" },
                "to": { "type": "string", "description": "New path relative to the workspace" },
                "overwrite": { "type": "boolean", "default": false, "description": "Whether to replace a file at `to`" }
            },
            "required": ["from", "to"],
            "additionalProperties": false
        })
    }

    fn run(arguments: Arguments, files: &Files, stop: &Stop) -> Result<Answer> {
        let from = RelPath::parse(&arguments.from)?;
        let to = RelPath::parse(&arguments.to)?;
        let whole = || Error::invalid("path", "the workspace itself cannot be moved or replaced");
        let (from_folder, from_name) = from.split().ok_or_else(whole)?;
        let (to_folder, to_name) = to.split().ok_or_else(whole)?;
        files.changeable(&from)?;
        files.changeable(&to)?;
        let dir = files.dir();
        // Links are moved, not followed.
        let moved = dir.symlink_metadata(from.as_str()).map_err(|error| from.failed(&error))?;
        if moved.is_dir() && (to == from || to.as_str().starts_with(&from.join(""))) {
            return Err(Error::invalid("path", format!("the folder `{from}` cannot be moved into itself")));
        }
        let replaced = match dir.symlink_metadata(to.as_str()) {
            Ok(there) if there.is_dir() => {
                return Err(Error::conflict("exists", format!("`{to}` is a folder"))
                    .hint("`to` is the whole new path, with the name in it"));
            }
            Ok(_) if !arguments.overwrite.unwrap_or(false) => {
                return Err(
                    Error::conflict("exists", format!("`{to}` exists already")).hint("set `overwrite` to replace it")
                );
            }
            Ok(_) if moved.is_dir() => return Err(Error::conflict("exists", format!("`{to}` is a file"))),
            Ok(_) => true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(to.failed(&error)),
        };
        stop.check()?;
        files.make_folder(&to_folder)?;
        let source = dir.open_dir(from_folder.as_str()).map_err(|error| from.failed(&error))?;
        let target = dir.open_dir(to_folder.as_str()).map_err(|error| to.failed(&error))?;
        source.rename(from_name, &target, to_name).map_err(|error| match error.kind() {
            io::ErrorKind::CrossesDevices => {
                Error::unsupported("move", format!("`{from}` and `{to}` are on different file systems"))
            }
            _ => from.failed(&error),
        })?;
        let _ = (sync_folder(&target), sync_folder(&source));
        if moved.is_dir() {
            files.moved_folder(from.as_str(), to.as_str());
        } else {
            files.changed(from.as_str(), Change::Deleted);
            files.changed(to.as_str(), if replaced { Change::Modified } else { Change::Created });
        }
        Ok(Answer::ok(format!("moved `{from}` to `{to}`"), json!({ "from": from.as_str(), "to": to.as_str() })))
    }
}
