//! The codes of the host's modules that are no family with a table of its own: admission, plugins, runs, tools, HTTP, the store,
//! the commands.
//!
//! Where a code can come with several kinds, the commonest stands here.

use super::codes;

codes! {
    /// The codes, by what they are about.
    // ---- words, ids and files that people write
    Invalid "run-id-form":
        "A text is not the id of a run: 26 lower-case letters and digits."
        => "Copy the id as `midplane runs list` prints it; commands also take an unambiguous beginning of it.";
    Invalid "plugin-name-form":
        "A text cannot be the name of a plugin: a lower-case letter, then lower-case letters, digits and `-`, at most 63."
        => "Rename the plugin in its `plugin.toml`.";
    Invalid "profile-name-form":
        "A text cannot be the name of a profile: a lower-case letter, then lower-case letters, digits and `-`, at most 63."
        => "Rename the profile in the configuration.";
    Invalid "digest-form":
        "A text is not a SHA-256 digest: 64 lower-case hex digits."
        => "Copy the whole digest; the short form of 12 digits is for reading only.";
    NotFound "code-unknown":
        "`explain` was asked for a code that does not exist."
        => "Copy the code from the message, or run `midplane explain` without one to list all.";
    NotFound "schema-unknown":
        "`schema` was asked for a schema that is not published."
        => "Run `midplane schema` without a name to list all.";
    Internal "no-problem":
        "A file was refused and nothing says why. This is a defect of the host."
        => "Report it with the file that was refused.";
    Invalid "config":
        "A configuration file cannot be read, is no YAML, or has a field that is not known or of the wrong type."
        => "Mend it at the line that the message names.";
    Invalid "setting":
        "A plugin's setting is not known, or its value is not of the type that the plugin's manifest declares."
        => "See the settings in `midplane plugin show NAME`, and mend the value in the profile.";
    Invalid "setting-missing":
        "A profile lacks a setting that its plugin needs."
        => "Set it under `profiles: NAME: settings:` in the configuration.";
    Invalid "limit-raised":
        "A limit would become higher than may be: a plugin may only lower limits, and some are part of the contract."
        => "Lower the value. An operator may raise those limits that the documentation marks so.";
    Invalid "limit-unknown":
        "No limit has this name."
        => "Check the spelling; the hint names the nearest.";
    Invalid "file":
        "A file that a command names cannot be read or written, or is not UTF-8 text."
        => "Check that the path is right and this user has the rights to it.";
    Limit "file-size":
        "A file is larger than what is read of one."
        => "Use a smaller file; of a component, the operator may raise `component_bytes_max`.";
    NotFound "file-not-found":
        "A file that should be checked is not there."
        => "Check the path; a project's manifest is `runtm.yaml`.";
    Invalid "file-kind":
        "A text from standard input has no name that says what kind of file it is."
        => "Say it with `--as`.";
    Invalid "file-not-utf8":
        "A file is not UTF-8 text; the place is that of the first wrong byte."
        => "Save it as UTF-8.";
    Limit "file-too-large":
        "A file is larger than any file of its kind is."
        => "See whether another file was named by mistake.";
    Unavailable "file-unreadable":
        "A file is there and cannot be read."
        => "Check its rights, and that it is a plain file.";
    NotFound "project-folder":
        "What should be the folder of a project is no folder."
        => "Name a folder that exists.";
    Invalid "lock-shadowed":
        "A lock file lies beside another one that counts instead."
        => "Remove the one that is not used.";
    Conflict "manifest-changed":
        "The manifest was changed between looking at the proposed changes and writing them."
        => "Look at the changes again, and apply them then.";
    Denied "approval-missing":
        "The manifest is changed only after a person agrees, and nobody can be asked here."
        => "Look at the changes first; `--yes` agrees in advance.";
    Invalid "stdin":
        "Two arguments want to read standard input, which can be read only once."
        => "Give one of them as a file.";
    Unavailable "folder":
        "A folder that the host needs cannot be found, made or written."
        => "Check rights and space. `MIDPLANE_HOME` names another folder for all state.";
    Invalid "home":
        "Nothing says where the host keeps its state: neither `MIDPLANE_HOME` nor `HOME` is set."
        => "Set `MIDPLANE_HOME` to a folder.";
    Unavailable "random":
        "The system gives no random numbers, without which no id can be made."
        => "Check the system; in a container, that its random device is there.";
    Internal "command":
        "A program cannot be started as it was asked for (no program, too much or a NUL in arguments or environment), is not permitted, or a command of ours broke off."
        => "Mend `argv` or the environment. If the message names a missing grant, give it; if neither is the case, report it.";

    // ---- tasks and their admission
    Invalid "task":
        "A task breaks a rule, so no run was started."
        => "Mend the field that the message names; all issues are listed beside it.";
    Invalid "mcp-servers":
        "A file of MCP servers is no YAML or JSON of the right shape."
        => "Mend it at the place named: a list of servers, each with `name` and `command`.";
    Internal "mcp":
        "The MCP servers of a task cannot be prepared."
        => "Look at the log of the host and report it.";
    NotFound "workspace":
        "The folder that a task shall work in is not there, or is no folder."
        => "Name a folder that exists with `--workspace`.";
    Invalid "attachments":
        "An attachment cannot be put into the workspace: it is missing, too large, of the wrong kind, or its name is taken."
        => "Mend what the message names; attachments need `--workspace`.";
    NotFound "plugin-unknown":
        "No plugin of this name is installed."
        => "`midplane plugin list` lists those that are.";
    NotFound "profile-unknown":
        "No profile has this name. Each plugin has one of its own name; the configuration adds others."
        => "Check the spelling, or add it under `profiles:` in the configuration.";
    Unavailable "closing":
        "The host is shutting down and takes no more runs."
        => "Start the run again when the host is back.";

    // ---- permissions and grants
    Denied "permission-missing":
        "A plugin wanted something that its manifest does not ask for. No grant can help."
        => "The plugin's author has to add the permission to `plugin.toml`; then it can be granted.";
    Denied "grant-missing":
        "A plugin wanted something that its manifest asks for and the operator has not granted."
        => "If the plugin may, run the command in the hint; `midplane grant list` shows what is granted.";
    Invalid "grant-form":
        "A text is not a grant."
        => "Write for example `http:https://host`, `secret:NAME`, `workspace:read-write` or `command:git`.";
    Denied "address-refused":
        "A host name leads to a private, local or otherwise special address, or a redirect leaves TLS. Nothing was sent."
        => "If the address is meant, grant it as `address:IP`; otherwise look at who answers for that name.";
    Denied "credential":
        "A credential cannot be applied here: its secret is missing, not granted or refused by who gives tokens for it, or it would leave in a URL."
        => "See the message: set or renew the secret, grant it for this place, or name another credential rule.";
    Invalid "credential-ambiguous":
        "Several credential rules fit a request and the plugin names none."
        => "The plugin has to name one of them, or `anonymous`.";
    Denied "env":
        "A plugin wanted to set a variable for a program that it may not set."
        => "Grant `env:NAME` if the manifest asks for it.";
    Denied "not-here":
        "A plugin used an import in a call in which it may not, such as running a tool while it lists what it can do."
        => "The plugin's author has to move that into `run`.";
    Unsupported "not-implemented":
        "A plugin used an import that this host offers by name only, so far."
        => "Use a newer host, or a plugin that does without it.";

    // ---- secrets
    NotFound "secret":
        "A secret cannot be found: its variable is not set, its file cannot be read, or its reference is not one."
        => "Set the source that the message names, or name another under `secrets:` in the configuration.";
    Invalid "vault-missing":
        "A reference `vault:NAME` is used where no vault is configured, or no role is known to ask it with."
        => "Add `vault:` with stores, references and policies to the configuration, and state the role with `MIDPLANE_ROLE`.";
    Invalid "secret-too-long":
        "A secret's value is longer than what can be looked for in everything that leaves."
        => "Name the key alone, not a file of other data around it.";
    Limit "secrets":
        "The secrets of a run are too many or too long to be looked for together."
        => "Give the profile only the secrets that it needs.";
    Invalid "redacted":
        "A plugin put a secret into the code of an error; the code was replaced."
        => "Tell the plugin's author; nothing has left.";

    // ---- installing and loading plugins
    Invalid "manifest":
        "A `plugin.toml` cannot be read or breaks a rule."
        => "Mend it at the line and column that the message names.";
    Unsupported "wit-release":
        "The plugin was built against another release of the contract than this host offers."
        => "Install a version of the plugin for this host, or update the host.";
    Unsupported "wit-line":
        "The component imports or exports another line of the contract than this host offers."
        => "Build the plugin against the SDK of this host's line, or update the host.";
    Unsupported "world":
        "The component does not export what a plugin of its kind exports."
        => "Set `plugin.kind` to what the component is, or build it for the other world.";
    Unsupported "import-unknown":
        "The component imports something that this host does not offer."
        => "Build it against the worlds of `wit/v0`; of WASI 0.2 only a part is there, and HTTP goes through `midplane:plugin/http`.";
    Unsupported "link":
        "The component fits the contract by name, and does not fit this host in the types of an import or export."
        => "Build the plugin against the SDK of this host's line.";
    NotFound "component":
        "The component of a plugin is not there, not the only one, or not one that this host can run."
        => "Name it with `--component FILE`; build it for `wasm32-wasip2`.";
    Invalid "not-a-component":
        "The file is a core WebAssembly module, not a component."
        => "Build it for `wasm32-wasip2`, or wrap it with `wasm-tools component new`.";
    Invalid "not-wasm":
        "The file is not WebAssembly at all."
        => "Name the one `.wasm` file that the build makes.";
    Invalid "component-path":
        "The path of a component is not UTF-8, so it cannot be kept."
        => "Move it to a path that is.";
    Limit "component-size":
        "The component has more bytes than `component_bytes_max`."
        => "Build it smaller (release, stripped), or have the operator raise the limit.";
    Limit "component-functions":
        "The component has more functions than `component_functions_max`."
        => "Build it smaller, or have the operator raise the limit.";
    Limit "component-bounds":
        "The component wants more memories, tables or instances from its start than a plugin may have."
        => "Build it with a toolchain that needs fewer; these limits are part of the contract.";
    Limit "compile-memory":
        "Compiling the component took more memory than it may, and was ended."
        => "The component is too complex: build it smaller, or raise `compile_bytes_max` and `compile_ms_max`.";
    Limit "compile-time":
        "Compiling the component took longer than `compile_ms_max`."
        => "Build it smaller, or have the operator raise the limit.";
    Internal "compile":
        "Compiling ended without a result. This is a defect of the host."
        => "Try again; if it stays, report it with the component.";
    Unavailable "compile-worker":
        "The process that compiles a plugin cannot be started or was lost."
        => "Check that the program at the path in the message can be run; `midplane doctor` tries it.";
    Unavailable "compiled":
        "The compiled form of a plugin cannot be loaded: it is missing, of another version, or could have been written by someone else."
        => "Remove the file that the message names; it is made again.";
    Unavailable "cache":
        "The folder of compiled plugins cannot be written."
        => "Check its rights and free space; everything in it can be removed.";
    Invalid "helper":
        "The hidden command `helper` was called by hand or with an order that is none, or could not do its work."
        => "It is for the host itself; `midplane doctor` says whether it works.";
    Unsupported "helper-missing":
        "A plugin has to be compiled, or an MCP server bridged, and the embedding program named no helper that could do it."
        => "Name it with `Host::builder().helper(path)`: the `midplane` program itself serves.";
    Unsupported "embedded":
        "The plugin is part of this program and cannot be removed."
        => "Without grants it can do nothing; take those back instead.";
    Internal "engine":
        "The sandbox cannot be set up on this machine."
        => "See the message: too little address space or too few threads are the usual causes.";

    // ---- what a plugin did in a run
    Internal "instantiate":
        "The plugin could not be started: its own start code failed."
        => "Report it to the plugin's author, with the message.";
    Internal "trap":
        "The plugin broke off in a way that only a defect causes; its instance was thrown away."
        => "Report it to the plugin's author, with the message. Other runs are not affected.";
    Limit "memory":
        "The plugin wanted more memory than `memory_bytes_max`."
        => "Give the run less to hold at once, or have the operator raise the limit.";
    Limit "stack":
        "The plugin used up its stack: a recursion without end, or a very deep one."
        => "Report it to the plugin's author.";
    Limit "cpu":
        "The plugin computed longer than `cpu_ms_max`. Waiting does not count."
        => "A loop without end is a defect to report; otherwise the operator may raise the limit.";
    Limit "handles":
        "The plugin holds as many handles (bodies, blobs, children) as it may."
        => "The plugin's author has to drop those that are done with.";
    Limit "argument-size":
        "The plugin passed more in one call than a call may carry, and was ended."
        => "The plugin's author has to pass it in parts or as a blob.";
    Cancelled "dropped":
        "The plugin did not return within the grace after a cancel or its deadline, and was dropped."
        => "Nothing has to be done; an author can ask `control` and end in time.";
    Internal "finish-reason":
        "The plugin ended with a finish reason that does not exist."
        => "Report it to the plugin's author.";
    Internal "no-error":
        "The plugin says that it failed and not why."
        => "Look at the run's events and log; report it to the plugin's author.";
    Limit "output-size":
        "The answer has more bytes than `output_bytes_max`."
        => "Have it write a file in the workspace and name that as an output.";
    Limit "outputs":
        "A file that the task names as an output cannot be kept: it is no plain file, too large or unreadable."
        => "Check what the run wrote there; only plain files are kept.";
    Invalid "batch-empty":
        "The plugin emitted a batch without events."
        => "The plugin's author has to leave such calls out.";
    Limit "batch-size":
        "The plugin emitted more events or bytes at once than a batch may have."
        => "The plugin's author has to emit in smaller batches.";
    Invalid "event-kind":
        "The plugin emitted an event of a kind that does not exist, or that the host alone writes."
        => "The plugin's author finds the kinds in `wit/README.md`.";
    Invalid "event-data":
        "The data of an event is no JSON object, or has a field that is missing or of the wrong type."
        => "The plugin's author finds the fields of each kind in `wit/README.md`.";
    Invalid "event-order":
        "`runtime_started` has to be the first event of a run and to come once."
        => "The plugin's author has to emit it first.";
    Limit "event-size":
        "The data of one event has more than `event_bytes_max`."
        => "The plugin's author has to cut it or split it.";
    Limit "run-events":
        "A run has as many events as `run_events_max` allows."
        => "Have the operator raise the limit, or the plugin emit fewer, larger events.";
    Invalid "price":
        "A price under `prices` in the configuration is no amount in US dollars for a million tokens."
        => "Write `input` and `output`, and where they differ `cache_read` and `cache_creation`, as numbers from 0.";
    Unsupported "budget-unpriced":
        "A task has a budget, its model used tokens, and neither the vendor nor the host's table says what they cost."
        => "Give the model a price under `prices` in the configuration, or leave the budget out.";
    Unavailable "first-event-timeout":
        "Nothing came from an agent in the time that it has for a beginning."
        => "Raise `first_event_ms_max` under `limits` if its vendor is that slow; `midplane doctor --agents --probe` says whether it answers.";
    Unavailable "idle-timeout":
        "Nothing more came from an agent for too long."
        => "Raise `idle_ms_max` under `limits` if its tools take that long without a word.";
    Unsupported "plugin-kind":
        "Something that only an agent can do was asked of a plugin of another kind."
        => "Name the profile of an agent; `midplane agents` lists them.";
    Conflict "question-closed":
        "A question was answered that no run waits with: it was answered before, timed out, or never asked."
        => "List what a run waits for with `midplane runs approve RUN --list`.";
    Invalid "question":
        "A question for approval has no title, too long a one, or detail that is too large."
        => "The plugin's author has to keep to the bounds in `wit/v0/approval.wit`.";

    // ---- the run itself
    Cancelled "cancelled":
        "The run was cancelled, so this call was not carried out."
        => "Nothing has to be done.";
    Cancelled "deadline":
        "The run took longer than it was given."
        => "Give it more time with `--timeout`.";
    Limit "budget":
        "The run spent what its task allows it to spend."
        => "Raise the budget of the task, or ask for less.";
    Unavailable "timeout":
        "A plugin or a server did not answer in time, or a timeout of 0 was asked for."
        => "Try again; if it stays, see whether the other side works at all.";
    Unavailable "host-lost":
        "The process that drove the run ended before the run did."
        => "Start the run again; what it did until then is in its log.";
    Conflict "illegal-transition":
        "A run cannot go from its status to that one."
        => "This is a defect of the host: report it with the run's log.";
    Conflict "run-ended":
        "The run has ended, so it takes no more messages, events or writes."
        => "Start another one; where the plugin can, resume its conversation.";
    Conflict "run-exists":
        "A run is created once, and this one exists."
        => "Use another id.";
    Conflict "run-active":
        "The run has not ended, so it cannot be removed."
        => "Cancel it first.";
    Invalid "run-ambiguous":
        "Several runs begin with these digits."
        => "Give more of the id.";
    NotFound "run-unknown":
        "No run has this id."
        => "`midplane runs list` lists those that are kept.";
    NotFound "run-removed":
        "The run was removed while it was read."
        => "Nothing has to be done.";
    Conflict "run-owner":
        "Another process drives the run."
        => "Cancel and steer from any process; only its owner writes.";
    Internal "driver-lost":
        "The task that drove the run is gone. This is a defect of the host."
        => "Report it with the run's log.";
    Internal "created":
        "The first record of a run could not be made. This is a defect of the host."
        => "Report it with the task.";
    Internal "terminal":
        "The last record of a run cannot be read."
        => "Use the version of the program that wrote it; otherwise report it.";
    NotFound "output":
        "The run made no file of this name."
        => "`midplane runs show` lists its outputs.";
    Limit "signals":
        "As many messages wait for the run as may; it has not asked for them."
        => "Wait until it has taken some.";
    Limit "signals-full":
        "As many messages wait in the store for a run of another process as may."
        => "Wait until it has taken some.";
    Limit "signal-size":
        "A message to a run has more than `signal_bytes_max`."
        => "Put the text into a file of the workspace and name that.";
    Unavailable "owner":
        "The lock by which processes know each other's runs cannot be taken."
        => "Check the rights to the folder `owners` in the data folder.";

    // ---- tools
    NotFound "tool":
        "The model called a tool that does not exist or is not available in this run."
        => "If it should be, give the task a workspace or grant what the message names.";
    Invalid "arguments":
        "The model called a tool with arguments that do not fit its schema."
        => "Nothing has to be done: the model sees the message and can repair the call.";
    Invalid "call-id":
        "The id of a tool call is empty, too long, or used twice in one list."
        => "The plugin's author has to pass on the ids of the vendor.";
    Limit "calls":
        "More tool calls were made at once than one list may have."
        => "The plugin's author has to split the list.";
    Invalid "calls-empty":
        "A list of tool calls was empty."
        => "The plugin's author has to leave such calls out.";
    Limit "tool-calls":
        "The run made as many tool calls as `tool_calls_max` allows."
        => "Ask for less at once, or have the operator raise the limit.";
    Denied "path":
        "A path is not one inside the workspace, leads out of it, or does not exist."
        => "Use paths relative to the workspace, without `..`; links that lead out are not followed.";
    Conflict "exists":
        "Something is there already under that name."
        => "Choose another name, or allow the tool to replace it.";
    Invalid "not-a-file":
        "A tool for files was given a folder, or a link to nothing."
        => "Name a plain file.";
    Invalid "not-a-folder":
        "A tool for folders was given a file, or a part of the path is one."
        => "Name a folder instead.";
    Invalid "binary":
        "The file is not text, so it cannot be shown or edited as text."
        => "Use a program that knows its format, where `shell` is granted.";
    Denied "file-mode":
        "The system does not let this user read or change the file, or it is marked read-only."
        => "Change its rights, if the run is meant to change it.";
    Limit "disk-full":
        "No space is left where the workspace is."
        => "Free some space there.";
    Denied "git-folder":
        "File tools do not change what is inside a `.git` folder."
        => "Use git itself through `shell`, where that is granted.";
    NotFound "edit":
        "The text to replace is not in the file, or is there several times."
        => "Nothing has to be done: the model sees the message and can read the file again.";
    Unsupported "move":
        "A file cannot be moved to another file system in one step."
        => "Copy it and remove the original.";
    Invalid "offset":
        "The file has fewer lines than the one to begin at."
        => "Nothing has to be done: the model sees how many there are.";
    Invalid "pattern":
        "A pattern for names or text is not well-formed, too long, or leads out of its folder."
        => "Mend it; patterns for names are relative and have no `..`.";
    Limit "children":
        "As many programs run in this run as `children_max` allows."
        => "Wait until one has ended.";
    Invalid "cwd":
        "A program should start in a folder of the workspace, and this call has none."
        => "Give the task a workspace.";
    NotFound "program":
        "The program is not installed, or its interpreter is not."
        => "Install it, or put its folder into `PATH`.";
    Unavailable "spawn":
        "The system could not start the program."
        => "See the message; too many processes or too little memory are usual causes.";
    Unavailable "signal":
        "The system could not signal the program."
        => "See whether it still runs.";
    Conflict "stdin-closed":
        "The program's standard input is closed already."
        => "Start it again if it should read more.";
    Limit "stdin-full":
        "The program does not read its input as fast as it is written."
        => "Read its output first, then write again.";
    Unsupported "sandbox":
        "The sandbox around a local program cannot be put up, or not all of it where the profile requires that."
        => "See the message; a newer kernel enforces more, and `sandbox: {required: false}` of the profile does without.";
    Denied "not-own-port":
        "A websocket was asked for to a port that the child does not listen on, or that another program answers."
        => "Have the child listen on a loopback port of its own, and connect once it says so.";
    Unavailable "websocket":
        "The child's port does not answer as a websocket."
        => "See the message; what the child writes to its standard error may say more.";
    Unavailable "closed":
        "The websocket is closed."
        => "Connect again if the child still listens.";
    Limit "sockets":
        "As many websockets are open in this run as `sockets_max` allows."
        => "Close one first.";
    Limit "frame-size":
        "A message of a websocket is larger than `socket_frame_bytes_max` allows."
        => "Send it in parts.";
    Limit "queue-full":
        "The child does not read its websocket as fast as it is written."
        => "Read its messages first, then send again.";

    // ---- HTTP
    Invalid "url":
        "A text is not a URL that can be sent: absolute, `http` or `https`, without user information or fragment."
        => "Write it as `https://host/path`.";
    Invalid "method":
        "The method of a request is not one that can be sent."
        => "Write it in upper case, such as `GET`.";
    Invalid "header":
        "A header has a name or value that cannot be sent, or is one that the host itself sets."
        => "Leave it out or mend it.";
    Limit "headers":
        "A request has too many headers, or too large ones."
        => "Send fewer headers.";
    Limit "http-bytes":
        "A body is too large to be given as bytes, or the run has used up what it may send and receive."
        => "Give large bodies as a blob; the operator may raise `http_bytes_max`.";
    Limit "rate-limited":
        "The run made as many HTTP requests as `http_requests_max` allows."
        => "Have the operator raise the limit.";
    Unavailable "resolve":
        "The host name cannot be resolved."
        => "Check its spelling and this machine's name service.";
    Unavailable "connect":
        "No address of the host accepts a connection."
        => "Check that the service runs and that a firewall lets it through.";
    Unavailable "tls":
        "The server's certificate cannot be verified, or TLS cannot be set up."
        => "For a private authority, name its certificate under `certificate_authorities`; otherwise do not trust the server.";
    Invalid "certificate":
        "The file of extra certificate authorities has no certificate that can be used."
        => "It is a PEM file with one or more `BEGIN CERTIFICATE` blocks.";
    Unavailable "broken":
        "A connection or a transfer broke off, a server redirects without end, or an earlier write failed."
        => "Try again; if it stays, the other side is at fault.";
    Unavailable "body-idle":
        "A server stopped sending in the middle of its answer."
        => "Try again; slow answers may need a larger `http_idle_ms_max`.";
    Unavailable "body-truncated":
        "A server closed the connection before its answer was complete."
        => "Try the request again.";
    Unsupported "presign":
        "A credential cannot sign a request ahead of sending it, or none applies."
        => "Use a credential that signs URLs; bearer, header, basic, query and google-oauth only work while the host sends.";

    // ---- blobs, keys and values
    Invalid "mcp-server-form":
        "An MCP server on the command line is neither a URL nor a program with its arguments."
        => "Write `NAME=PROGRAM ARGUMENT ...` or `NAME=https://host/path`; a file with a list of servers can say more.";
    Unavailable "mcp-server":
        "An MCP server of the task did not start, ended, broke the protocol or refused its client."
        => "The message has its name, the reason and the end of what it wrote to stderr; run its command by itself to see more.";
    Limit "mcp-message":
        "An MCP server sent an event that is larger than `mcp_message_bytes_max`."
        => "Ask it for less at once; the operator may raise the limit.";
    Unavailable "mcp-bridge":
        "The socket by which a program reaches an MCP server of its run cannot be made."
        => "Check that the folder for temporary files can be written.";
    Denied "endpoint-path":
        "A program called a path at an endpoint of its run that leads out of the URL which the endpoint stands for."
        => "Call paths below that URL; the plugin's manifest names it under `endpoints`.";
    Denied "endpoint-token":
        "A request to an endpoint of a run has another path or token than those of the run."
        => "Only the programs of the run know both; one that was left over from another run has to end.";
    Unavailable "endpoint":
        "The host found no port on the loopback address for the endpoints of a run."
        => "End programs that hold ports, or raise the number of open files (`ulimit -n`).";
    Limit "blob-bytes":
        "A write to a blob is too large, or the blobs of the run hold all that they may."
        => "Write in parts of at most 1 MiB; drop blobs that are no longer needed.";
    Invalid "range":
        "The wanted part does not lie within the blob."
        => "Ask for its length first.";
    Unsupported "digest":
        "A digest was asked for that the host cannot compute."
        => "Use `sha256`, `md5` or `crc32c`.";
    Internal "spool":
        "The host cannot keep a blob in its temporary file."
        => "Check free space where temporary files go.";
    Invalid "key":
        "A key of a plugin's state is empty, too long, has control characters, or holds a secret."
        => "The plugin's author has to choose another.";
    Invalid "kv-key":
        "A key of a plugin's state is empty, too long, or has control characters."
        => "The plugin's author has to choose another.";
    Limit "kv-full":
        "A profile would keep more than `kv_total_bytes_max`."
        => "Remove keys that are no longer needed, or have the operator raise the limit.";
    Limit "value-size":
        "A value of a plugin's state has more than `kv_value_bytes_max`."
        => "The plugin's author has to split it.";
    Conflict "revision":
        "A key was changed since it was read, so it was not overwritten."
        => "The plugin's author has to read it again and decide anew.";

    // ---- the store
    Internal "store":
        "The database failed in a way that has no code of its own."
        => "See the message; report it if it is not the machine's fault.";
    Unavailable "store-busy":
        "Another process holds the database."
        => "Try again; if it lasts, look for a `midplane` process that hangs.";
    Unavailable "store-closed":
        "The store was closed while it was in use."
        => "Nothing has to be done if the host was shutting down.";
    Uncertain "store-commit":
        "It is not known whether a change has reached the disk."
        => "Check the disk, then look whether the change is there before it is made again.";
    Internal "store-damaged":
        "The database is damaged. Nothing was changed."
        => "Put a copy back, or move the file away to start anew.";
    Internal "store-file":
        "A file operation of the store ended without a result."
        => "Try again; if it stays, report it.";
    Unavailable "store-io":
        "The disk did not read or write what it should."
        => "Check the disk and the file system.";
    Unsupported "store-newer":
        "The store was written by a newer version of this program. Nothing was changed."
        => "Use the newer `midplane` that wrote it.";
    Invalid "store-path":
        "Where the store should be, something else is."
        => "Name a folder, or a path where one can be made.";
    Denied "store-permission":
        "The store cannot be opened or written by this user."
        => "Give this user read and write access to the store's folder and its files.";
    Internal "store-reader":
        "A read of the database ended without a result."
        => "Try again; if it stays, report it.";
    Unavailable "store-thread":
        "The system lets the store start no thread."
        => "Raise the limit of processes and threads for this user.";
    Internal "store-writer":
        "The thread that writes the database is gone."
        => "Start the host again; what was answered as written is on disk.";
    Limit "disk":
        "The disk of the store is full."
        => "Free some space, for instance with `midplane runs prune`.";
    Invalid "number-range":
        "A number is greater than what the store can hold."
        => "Use numbers below 2^63.";
    Invalid "append-empty":
        "Nothing was to be appended to a run's log. This is a defect of the caller."
        => "Append at least one event.";
    Conflict "log-seq":
        "The log of the run has gone on since it was read, so nothing was appended."
        => "Read what was appended meanwhile and decide again.";
    Invalid "index-missing":
        "The first append of a run lacks what the list of runs shows of it. This is a defect of the caller."
        => "Give the index with the first append.";
    NotFound "artifact":
        "No content with this digest is kept here."
        => "Keep it first, or check the digest; what nothing refers to may have been removed.";
    Internal "artifact-damaged":
        "A kept content is not what was kept: the disk has changed it."
        => "Keep it again from its source; that mends it.";
    Limit "artifact-size":
        "What should be kept is larger than it may be."
        => "Keep less, or raise the limit that the message names.";
    Unavailable "artifact-source":
        "What should be kept cannot be read to its end."
        => "Check the file, and keep it again.";
    Conflict "artifact-used":
        "A run or a plugin still refers to the content, so it was not removed."
        => "Remove the run or the plugin first.";
}
