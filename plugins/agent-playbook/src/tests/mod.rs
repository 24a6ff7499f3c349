//! Playbooks run whole on a workspace in memory; what comes of them is compared.

mod workspace;

use midplane_plugin::agent::{Attachment, Task};
use midplane_plugin::testing::{FakeHost, task};
use midplane_plugin::{Agent, ErrorKind, json};
use proptest::prelude::*;

use crate::PlaybookAgent;
use crate::expr::Engine;
use crate::playbook::Playbook;
use workspace::{Files, read_only, writable};

fn record(host: &FakeHost, task: Task) -> String {
    let mut lines = match PlaybookAgent::run(host, task) {
        Ok(outcome) => {
            let made: Vec<&str> = outcome.artifacts.iter().map(|artifact| artifact.uri.as_str()).collect();
            vec![
                format!("finish {}", outcome.finish_reason),
                format!("output {:?}", outcome.output),
                format!("error {:?}", outcome.error.map(|error| (error.kind, error.code, error.message))),
                format!("parsed {:?}", outcome.parsed_output),
                format!("made {made:?}"),
                format!("metadata {}", outcome.metadata),
            ]
        }
        Err(error) => vec![format!("error {:?} {}: {}", error.kind, error.code, error.message)],
    };
    lines.push("-- events".into());
    lines.extend(host.event_lines());
    lines.push("-- calls".into());
    lines.push(host.call_lines());
    lines.join("\n")
}

fn with_vars(playbook: &str, vars: midplane_plugin::Value) -> Task {
    let mut task = task(playbook);
    task.metadata = json!({ "vars": vars }).to_string();
    task
}

fn files(files: &Files) -> String {
    files.borrow().iter().map(|(path, text)| format!("=== {path}\n{text}")).collect()
}

const REPO: [(&str, &str); 7] = [
    ("Cargo.toml", "[package]\nlicense = \"Apache-2.0\"\n"),
    ("LICENSE", "Apache\n"),
    ("README.md", "# x\n"),
    ("src/lib.rs", "// SPDX-License-Identifier: Apache-2.0\nfn a() {} // TODO: more\n"),
    ("src/deep/er/mod.rs", "fn b() {}\n// FIXME `now`\n// TODOS are none\n"),
    ("docs/my notes.txt", "see docs/my notes.txt\n"),
    ("docs/big.bin", "0123456789012345678901234567890123456789012345678901234567890123456789"),
];

#[test]
fn example_repo_inventory() {
    let (host, made) = writable(&REPO);
    let record = record(&host, task(include_str!("../../../../examples/playbooks/repo-inventory.yaml")));
    insta::assert_snapshot!(format!("{record}\n{}", made.borrow().get("INVENTORY.md").map_or("none", String::as_str)));
}

#[test]
fn example_bulk_rename_is_a_dry_run_first_and_needs_no_right_to_write() {
    let (host, made) = read_only(&REPO);
    let record = record(&host, task(include_str!("../../../../examples/playbooks/bulk-rename.yaml")));
    assert!(made.borrow().contains_key("docs/my notes.txt"));
    insta::assert_snapshot!(record);
}

#[test]
fn example_bulk_rename_renames_and_changes_references() {
    let (host, made) = writable(&REPO);
    let playbook = include_str!("../../../../examples/playbooks/bulk-rename.yaml");
    let record = record(&host, with_vars(playbook, json!({ "dry_run": false, "fix_references": true })));
    assert_eq!(made.borrow()["docs/my-notes.txt"], "see docs/my-notes.txt\n");
    insta::assert_snapshot!(record);
}

#[test]
fn example_bulk_rename_renames_nothing_when_names_collide() {
    let (host, made) = writable(&[("a 1.txt", "1"), ("a-1.txt", "2"), ("b 1.txt", "3"), ("b  1.txt", "4")]);
    let before = files(&made);
    let playbook = include_str!("../../../../examples/playbooks/bulk-rename.yaml");
    let record = record(&host, with_vars(playbook, json!({ "dry_run": false })));
    assert_eq!(files(&made), before);
    insta::assert_snapshot!(record);
}

#[test]
fn example_todo_licence_audit() {
    let (host, made) = writable(&REPO);
    let record = record(&host, task(include_str!("../../../../examples/playbooks/todo-licence-audit.yaml")));
    insta::assert_snapshot!(format!("{record}\n{}", made.borrow().get("AUDIT.md").map_or("none", String::as_str)));
}

#[test]
fn example_todo_licence_audit_fails_when_it_is_strict() {
    let (host, _) = writable(&REPO);
    let playbook = include_str!("../../../../examples/playbooks/todo-licence-audit.yaml");
    let outcome = PlaybookAgent::run(&host, with_vars(playbook, json!({ "strict": true }))).expect("an outcome");
    let error = outcome.error.expect("failed");
    assert_eq!(
        (error.kind, error.code.as_str(), error.message.as_str()),
        (ErrorKind::Conflict, "expect", "step 9 `judge`: 1 sources have no licence header; see `AUDIT.md`")
    );
}

/// Every part of the language, once.
const EVERYTHING: &str = r#"
playbook: 1
name: everything
vars: { n: 2, names: [a, b], target: "{{ names[0] }}.txt" }
steps:
  - name: compute
    set: { double: "{{ n * 2 }}", both: ["{{ n }}", "x{{ n }}"] }
  - name: skipped
    when: n > 5
    tool: read_file
    with: { path: never }
    save_as: nothing
  - name: write each
    for_each: names
    as: name
    tool: write_file
    with: { path: "{{ name }}.txt", content: "{{ name }} {{ index }} {{ nothing is none }}" }
    save_as: written
  - name: read them, side by side
    for_each: [a.txt, gone.txt, b.txt]
    as: path
    tool: read_file
    with: { path: "{{ path }}", limit: "{{ none }}" }
    keep: "{{ result.value.content | upper }}"
    save_as: contents
    on_error: continue
  - name: a command that may fail
    tool: shell
    with: { command: exit 1 }
    expect:
      - result.value.exit_code in [0, 1]
      - not result.ok
    set: { code: "{{ result.value.exit_code }}" }
  - name: a command that must not
    tool: shell
    with: { command: exit 2 }
    on_error:
      steps:
        - name: say it
          say: "handled {{ error.step }}: {{ error.code }}: {{ error.message }}"
        - name: remember
          set: { handled: true }
  - name: pairs
    for_each: "{'k': 1, 'l': 2}"
    steps:
      - name: inner
        say: "{{ item.key }}={{ item.value }} of {{ double }}"
  - name: check
    expect:
      - that: handled and code == 1
      - errors | length == 1
      - both == [2, 'x2'] and target == 'a.txt'
output: "{{ contents | join(',') }} {{ written | map(attribute='path') | join(',') }}"
result: { contents: "{{ contents }}", n: "{{ n }}" }
"#;

#[test]
fn every_part_of_the_language() {
    let (host, _) = writable(&[]);
    insta::assert_snapshot!(record(&host, task(EVERYTHING)));
}

#[test]
fn a_playbook_may_be_json() {
    let (host, _) = writable(&[("a", "1")]);
    let playbook = r#"{"playbook": 1, "name": "j", "steps": [{"name": "read", "tool": "read_file", "with": {"path": "a"}, "save_as": "a"}], "output": "{{ a.content }}"}"#;
    let outcome = PlaybookAgent::run(&host, task(playbook)).expect("an outcome");
    assert_eq!(outcome.output, "1");
}

fn steps(steps: &str) -> String {
    format!("playbook: 1\nname: t\nvars: {{ n: 1, list: [1, 2, 3] }}\nsteps:\n{steps}")
}

#[test]
fn what_fails_says_which_step_and_why() {
    let cases = [
        ("a tool", "  - {name: read, tool: read_file, with: {path: gone}}"),
        ("an item", "  - {name: read, for_each: list, tool: read_file, with: {path: '{{ item }}'}}"),
        ("a condition", "  - {name: c, when: n.x.y, say: x}"),
        ("an argument", "  - {name: c, tool: read_file, with: {path: '{{ n | nofilter }}'}}"),
        ("a loop over no list", "  - {name: c, for_each: n, say: x}"),
        ("a loop that is too long", "  - {name: c, for_each: range(10001), say: x}"),
        ("an expectation", "  - {name: c, expect: n == 2}"),
        ("an expectation with a message", "  - {name: c, expect: {that: n == 2, message: 'n is {{ n }}'}}"),
        (
            "an expectation on a tool that failed",
            "  - {name: c, tool: read_file, with: {path: gone}, expect: result.value.size_bytes > 0}",
        ),
        (
            "an expectation on a tool",
            "  - {name: c, tool: shell, with: {command: exit 3}, expect: result.value.exit_code == 0}",
        ),
        ("fail", "  - {name: c, fail: 'because {{ n }}'}"),
        ("a step in a step", "  - name: outer\n    steps:\n      - {name: inner, fail: deep}"),
        (
            "a step in a handler",
            "  - name: outer\n    fail: first\n    on_error:\n      steps:\n        - {name: inner, fail: second}",
        ),
        (
            "a value that is too long",
            "  - {name: c, set: {x: '{{ range(100000) | list }}'}}\n  - {name: d, set: {y: '{{ [x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x] }}'}}",
        ),
        ("an unknown tool", "  - {name: c, tool: raed_file}"),
    ];
    let mut lines = Vec::new();
    for (what, text) in cases {
        let (host, _) = writable(&[]);
        let error = match PlaybookAgent::run(&host, task(&steps(text))) {
            Ok(outcome) => outcome.error,
            Err(error) => Some(error),
        };
        let error = error.unwrap_or_else(|| panic!("{what} does not fail"));
        lines.push(format!("{what}: {:?} {}: {}", error.kind, error.code, error.message));
    }
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn a_malformed_playbook_is_refused_with_all_that_is_wrong() {
    let cases = [
        "just text",
        "playbook: 2\nname: x\nsteps: [{name: a, say: hi}]",
        "name: x\nsteps: []",
        "playbook: 1\nname: x\nstep: []",
        "playbook: 1\nname: x\nsteps:\n  - name: a\n    tool: read_file\n    with: {path: {{ x }}}\n",
        "playbook: 1\nname: x\nsteps:\n  - name: a\n    say: hi\n  - name: a\n    say: hi\n    say: ho\n",
        "playbook: 1\nname: x\nsteps:\n  - name: a\n\t  say: hi\n",
    ];
    let many = r#"
playbook: 1
name: x
vars: { 1bad: 1, task: 2, files: [] }
steps:
  - say: no name
  - name: two things
    tool: glob
    say: x
  - name: nothing
  - name: typo
    tols: glob
  - name: types
    tool: [glob]
    with: x
    parallel: maybe
  - name: braces
    when: "{{ files }}"
    say: x
  - name: syntax
    say: "{{ files | }}"
    expect: files +
  - name: unknown names
    tool: read_file
    with: { path: "{{ fles }}", deep: [ { x: "{{ later }}" } ]  }
    save_as: later
  - name: nothing to save
    say: x
    save_as: x
  - name: keep without a name
    keep: 1
  - name: loop variable
    for_each: files
    as: file
    tool: read_file
    with: { path: "{{ file }}" }
  - name: after the loop
    say: "{{ file }} {{ result }}"
  - name: handler
    say: x
    on_error: retry
  - name: nested
    steps:
      - name: inner
        say: "{{ error }}"
        on_error: { step: [] }
  - text
output: "{{ missing }}"
"#;
    let mut lines = Vec::new();
    for text in cases.into_iter().chain([many]) {
        let problems = Playbook::parse(text, &Engine::new()).expect_err("malformed");
        lines.push(format!("--- {}", text.lines().next().unwrap_or_default()));
        lines.extend(problems.iter().map(ToString::to_string));
    }
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn a_malformed_playbook_is_an_error_of_the_run_and_an_issue_of_the_goal() {
    let (host, _) = writable(&[]);
    let bad = task(&steps("  - {name: a, tool: glob, wiht: {pattern: x}}\n  - {name: b}"));
    let issues = PlaybookAgent::validate(&host, &bad);
    assert_eq!(issues.iter().map(|issue| issue.field.as_str()).collect::<Vec<_>>(), ["goal", "goal"]);
    let error = PlaybookAgent::run(&host, bad).expect_err("refused");
    assert_eq!((error.kind, error.code.as_str()), (ErrorKind::Invalid, "playbook"));
    insta::assert_snapshot!(error.message);
    assert_eq!(host.event_lines(), Vec::<String>::new());
}

#[test]
fn bounds_are_kept() {
    let many: String = (0..1001).map(|n| format!("  - {{name: s{n}, say: x}}\n")).collect();
    let deep = (0..9)
        .fold(String::new(), |text, depth| format!("{text}{0}- name: d\n{0}  steps:\n", " ".repeat(2 + depth * 4)))
        + &format!("{}- {{name: x, say: x}}\n", " ".repeat(38));
    let long = format!("  - {{name: a, say: '{}'}}", "x".repeat(1024 * 1024));
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\ng: [*f,*f,*f,*f,*f,*f,*f,*f,*f]\n";
    let nested = "[".repeat(100_000);
    let mut lines = Vec::new();
    for text in [steps(&many), steps(&deep), steps(&long), bomb.into(), nested] {
        let problems = Playbook::parse(&text, &Engine::new()).expect_err("refused");
        lines.push(problems[0].to_string());
    }
    let (host, _) = writable(&[]);
    let flood = format!(
        "{}\noutput: \"{{% for a in range(60000) %}}01234567890123456789{{% endfor %}}\"",
        steps("  - {name: a, say: x}")
    );
    let outcome = PlaybookAgent::run(&host, task(&flood)).expect("an outcome");
    lines.push(outcome.error.expect("too long").message);
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn deep_nesting_is_refused_within_the_small_stack_of_a_component() {
    // A component has 512 KiB; half of it stands for what a runtime's frames are larger.
    let deep = std::thread::Builder::new().stack_size(256 * 1024).spawn(|| {
        let expressions = [
            // As deep as the bound on their length lets them be, and deeper.
            format!("{}1", "-".repeat(190)),
            format!("{}1", "not ".repeat(190)),
            format!("1{}", "+1".repeat(190)),
            format!("n{}", "|abs".repeat(190)),
            format!("n{}", ".a".repeat(190)),
            format!("n{}", "[0]".repeat(190)),
            "1 if 1 else ".repeat(95) + "1",
            format!("{}1{}", "(".repeat(5000), ")".repeat(5000)),
            format!("{}1{}", "[".repeat(5000), "]".repeat(5000)),
            format!("{}1", "not ".repeat(5000)),
            format!("{}1", "-".repeat(5000)),
            format!("1{}", " + 1".repeat(5000)),
            format!("1{}", " | abs".repeat(5000)),
            format!("x{}", ".a".repeat(5000)),
            format!("x{}", "[0]".repeat(5000)),
            "1 if 1 else ".repeat(5000) + "1",
        ];
        let mut texts: Vec<String> =
            expressions.iter().map(|text| steps(&format!("  - {{name: a, set: {{x: 1}}, when: '{text}'}}"))).collect();
        texts.push(steps(&format!("  - {{name: a, say: '{}{}'}}", "{% if 1 %}".repeat(2000), "{% endif %}".repeat(2000))));
        texts.push(steps(&format!("  - {{name: a, set: {{x: {}{}}}}}", "[".repeat(5000), "]".repeat(5000))));
        texts.push(format!("{}1{}", "{a: ".repeat(5000), "}".repeat(5000)));
        for text in texts {
            let (host, _) = writable(&[]);
            let _ = PlaybookAgent::validate(&host, &task(&text));
            let _ = PlaybookAgent::run(&host, task(&text));
        }
        // A lazy value inside of a lazy value, made by a loop, must not grow a chain that is walked by recursion.
        let chain = steps("  - {name: a, for_each: range(5000), set: {list: '{{ list + [item] }}'}}\n  - {name: b, expect: list | length == 5003}");
        let (host, _) = writable(&[]);
        assert_eq!(PlaybookAgent::run(&host, task(&chain)).expect("an outcome").error, None);
    });
    deep.expect("a thread").join().expect("it neither panics nor overflows");
}

#[test]
fn calls_that_read_go_out_together_and_calls_that_change_something_one_by_one() {
    let (host, _) = writable(&[]);
    let text = steps(concat!(
        "  - {name: read, for_each: range(70), tool: read_file, with: {path: '{{ item }}'}, on_error: continue}\n",
        "  - {name: write, for_each: range(3), tool: write_file, with: {path: '{{ item }}', content: x}}\n",
        "  - {name: forced, for_each: range(3), parallel: true, tool: write_file, with: {path: '{{ item }}', content: x}}\n",
        "  - {name: with set, for_each: range(3), tool: read_file, with: {path: '{{ item }}'}, set: {n: '{{ n + 1 }}'}}\n",
        "  - {name: filtered, for_each: range(6), when: item % 2 == 0, tool: glob, with: {pattern: '{{ item }}'}}\n",
    ));
    let outcome = PlaybookAgent::run(&host, task(&text)).expect("an outcome");
    assert_eq!(outcome.error, None);
    let sizes: Vec<usize> = host.calls().iter().map(Vec::len).collect();
    assert_eq!(sizes, [32, 32, 6, 1, 1, 1, 3, 1, 1, 1, 3]);
}

#[test]
fn a_failure_stops_what_would_change_something_next() {
    let (host, made) = writable(&[("a", "1"), ("c", "3")]);
    let text =
        steps("  - {name: move, for_each: [a, b, c], tool: move_file, with: {from: '{{ item }}', to: 'x/{{ item }}'}}");
    let outcome = PlaybookAgent::run(&host, task(&text)).expect("an outcome");
    assert_eq!(outcome.finish_reason, "failed");
    assert_eq!(made.borrow().keys().cloned().collect::<Vec<_>>(), ["c", "x/a"]);
}

#[test]
fn a_cancel_between_calls_ends_the_run_with_what_was_done() {
    let (host, made) = writable(&[]);
    let host = host.cancel_after_calls(2);
    let text = steps(
        "  - {name: write, for_each: [a, b, c], tool: write_file, with: {path: '{{ item }}', content: x}, on_error: continue}",
    );
    let record = record(&host, task(&text));
    assert_eq!(made.borrow().len(), 2);
    insta::assert_snapshot!(record);
}

#[test]
fn a_tool_that_is_not_offered_is_refused_before_the_first_step_unless_the_step_may_be_skipped() {
    let (host, _) = read_only(&[]);
    let sure = steps(
        "  - {name: look, tool: glob, with: {pattern: '*'}}\n  - {name: write, tool: write_file, with: {path: a, content: b}}",
    );
    let error = PlaybookAgent::run(&host, task(&sure)).expect_err("refused");
    insta::assert_snapshot!(format!("{:?} {}: {}", error.kind, error.code, error.message));
    assert_eq!(host.calls().len(), 0);
    let (host, _) = read_only(&[]);
    let maybe = steps("  - {name: write, when: n > 1, tool: write_file, with: {path: a, content: b}}");
    assert_eq!(PlaybookAgent::run(&host, task(&maybe)).map(|outcome| outcome.finish_reason), Ok("done".into()));
}

#[test]
fn variables_of_the_caller_must_be_known() {
    let (host, _) = writable(&[]);
    let text = steps("  - {name: say, say: 'n is {{ n }}'}");
    let outcome = PlaybookAgent::run(&host, with_vars(&text, json!({ "n": "given" }))).expect("an outcome");
    assert_eq!(outcome.finish_reason, "done");
    assert!(host.event_lines().iter().any(|line| line.contains("n is given")));
    let issues = PlaybookAgent::validate(&host, &with_vars(&text, json!({ "m": 1 })));
    assert_eq!(issues.len(), 1);
    assert_eq!(issues[0].message, "the playbook has no variable `m`; hint: it has `n`, `list`");
}

#[test]
fn what_cannot_be_honoured_is_listed_in_the_order_of_the_task() {
    let (host, _) = writable(&[]);
    let mut task = task(&steps("  - {name: a, say: x}"));
    task.system = Some("be nice".into());
    task.model = Some("m".into());
    task.permissions.network = Some(true);
    task.output_schema = Some("{}".into());
    task.attachments =
        vec![Attachment { kind: "skill".into(), name: "s".into(), path: "s".into(), digest: "00".into() }];
    let issues: Vec<String> = PlaybookAgent::validate(&host, &task)
        .iter()
        .map(|issue| format!("{}: {}", issue.field, issue.message))
        .collect();
    insta::assert_snapshot!(issues.join("\n"));
}

#[test]
fn the_bounds_of_the_readme_are_those_of_the_code() {
    let readme = include_str!("../../README.md");
    for line in include_str!("../limits.rs").lines().filter_map(|line| line.strip_prefix("pub const ")) {
        let name = line.split(':').next().expect("a name");
        let value = line
            .split(['=', ';'])
            .nth(1)
            .expect("a value")
            .trim()
            .replace('_', "")
            .replace("1024 * 1024", "MiB")
            .replace(" * MiB", " MiB");
        let row = readme
            .lines()
            .find(|row| row.contains(&format!("`{name}`")))
            .unwrap_or_else(|| panic!("`{name}` is missing"));
        let value = if value == "MiB" { "1 MiB".to_owned() } else { value };
        assert!(row.replace(',', "").contains(&format!("| {value} ")), "{row} should say {value}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "(?s)[ -~\n]{0,200}") {
        let _ = Playbook::parse(&text, &Engine::new());
    }

    #[test]
    fn no_change_of_a_good_playbook_makes_the_parser_panic(at in 0usize..2000, with in "[ -~\n]{0,4}", cut in 0usize..20) {
        let mut text = EVERYTHING.to_owned();
        let from = at.min(text.len());
        text.replace_range(from..(from + cut).min(EVERYTHING.len()), &with);
        let _ = Playbook::parse(&text, &Engine::new());
    }
}
