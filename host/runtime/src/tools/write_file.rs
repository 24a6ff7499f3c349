//! `write_file`: a whole file, atomically.

use midplane_core::Result;
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::Answer;
use super::files::Files;
use super::tool::{FileTool, Needs, Stop};
use crate::workspace::RelPath;

pub(super) struct WriteFile;

#[derive(Deserialize)]
pub(super) struct Arguments {
    path: String,
    content: String,
    create_dirs: Option<bool>,
}

impl FileTool for WriteFile {
    type Arguments = Arguments;
    const NAME: &'static str = "write_file";
    const DESCRIPTION: &'static str = "Writes a file of the workspace as a whole, replacing what was there. To change a part \
        of a file use `edit_file`. Folders on the way are made unless `create_dirs` is false.";
    const NEEDS: Needs = Needs::Write;

    fn schema() -> Value {
        json!({
            "type": "object",
            "properties": {
                "path": { "type": "string", "description": "Path relative to the workspace" },
                "content": { "type": "string", "description": "The whole new content" },
                "create_dirs": { "type": "boolean", "default": true, "description": "Whether to make missing folders" }
            },
            "required": ["path", "content"],
            "additionalProperties": false
        })
    }

    fn run(arguments: Arguments, files: &Files, stop: &Stop) -> Result<Answer> {
        let path = RelPath::parse(&arguments.path)?;
        stop.check()?;
        if let Some((parent, _)) = path.split().filter(|_| arguments.create_dirs.unwrap_or(true)) {
            files.make_folder(&parent)?;
        }
        let created = files.write(&path, arguments.content.as_bytes())?;
        let size = arguments.content.len();
        let did = if created { "created" } else { "replaced" };
        let structured = json!({ "path": path.as_str(), "size_bytes": size, "created": created });
        Ok(Answer::ok(format!("{did} `{path}` ({size} bytes)"), structured))
    }
}
