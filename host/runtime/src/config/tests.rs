use std::fs;

use super::*;

/// A folder with the files of a configuration.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            fs::write(path, text).expect("a file");
        }
        Self(folder)
    }

    fn load(&self, assignments: &[&str]) -> Result<Config, Refused> {
        let selection = Selection {
            environment: "dev".into(),
            machine: "bridge".into(),
            substrate: "local-process".into(),
            role: String::new(),
        };
        let sources = Sources::new(self.0.path().join("operator")).project_of(&self.0.path().join("project/src"));
        let assignments: Vec<String> = assignments.iter().map(|text| (*text).to_owned()).collect();
        Config::load(&sources, &selection, &assignments, &|name| {
            Some(match name {
                "HOME" => "/h".to_owned(),
                other => panic!("`{other}` was read"),
            })
        })
    }

    /// What is refused, without the folder's own path.
    fn refused(&self, assignments: &[&str]) -> String {
        let refused = self.load(assignments).expect_err("refused");
        let lines = refused.problems.iter().map(|problem| {
            let hint = problem.hint.as_ref().map_or(String::new(), |hint| format!("\n    hint: {hint}"));
            format!("{problem} [{}]{hint}", problem.code)
        });
        let text = lines.collect::<Vec<_>>().join("\n");
        text.replace(&format!("{}/", self.0.path().display()), "")
    }
}

const OPERATOR: &str = "operator/config.yaml";
const PROJECT: &str = "project/midplane.yaml";
const TOP: (&str, &str) = ("project/.git/HEAD", "");
const DEEP: (&str, &str) = ("project/src/x", "");

#[test]
fn one_text() {
    let cases = [
        "profiles:\n  deepseek:\n    plugin: openai\n    settings: {base_url: 'http://127.0.0.1:1'}\n    grants: ['http:https://h', shell]\n",
        "",
        "profile: {}\n",
        "profiles:\n  Deep Seek: {}\n  x: {setings: {}, plugin: [a], grants: [sudo, 5], secrets: {K: s3cret}}\n",
        "limits:\n  memory_bytes: 3\n  run_events_max: lots\n  runs_max: -1\n",
        "limits:\n  stack_bytes_max: 999999999\n",
        "profiles: [\n",
        "profiles: [a]\nsecrets: {A: 'env:A', B: 1}\ncertificate_authorities: x\nvault: 1\n",
        "profiles: {x: {sandbox: {mode: own, read: [/opt/x], write: [/srv], network: false, ports: [80], required: true}}}\n",
        "profiles: {x: {sandbox: {mode: none}}}\n",
        "profiles: {x: {sandbox: {read: [relative, '~user/x']}}}\n",
        "profiles: {x: {sandbox: {ports: [0, 70000]}}}\n",
        "profiles: {x: {sandbox: {allow: all}}}\n",
        "profiles: {x: {settings: {a: '???', b: '${profiles.x.settings.c}'}}}\n",
        "profiles: {x: {settings: {a: '${oc.env:HOME}'}}}\n",
    ];
    let shown: Vec<String> = cases
        .iter()
        .map(|text| match Config::parse(text, "config.yaml") {
            Ok(config) => {
                format!("{text:?}\n    {:?} {:?} {:?}", config.profiles, config.secrets, config.limits)
            }
            Err(error) => format!("{text:?}\n    {error} | {}", error.hint.as_deref().unwrap_or("-")),
        })
        .collect();
    insta::assert_snapshot!(shown.join("\n"));
}

#[test]
fn every_layer_counts_and_says_so() {
    let folder = Folder::new(&[
        TOP,
        DEEP,
        (
            PROJECT,
            "profiles:\n  x:\n    plugin: openai\n    settings: {model: small, base_url: 'http://p', tone: dry}\nlimits: {run_events_max: 7}\n",
        ),
        (
            OPERATOR,
            "environment_variables: [HOME]\nprofiles:\n  x:\n    settings: {model: default, dir: '${oc.env:HOME}/d'}\n    grants: ['http:https://a']\n",
        ),
        (
            "operator/environment.yaml",
            "dev: {profiles: {x: {settings: {model: dev}}}}\nprod: {limits: {run_events_max: 1}}\n",
        ),
        (
            "operator/machine.yaml",
            "other: {}\n_:\n  profiles: {x: {grants: ['folder:${paths.data_root}:rw']}}\n  paths: {data_root: /d}\n",
        ),
    ]);
    let config = folder.load(&["profiles.x.settings.model=now"]).expect("loaded");
    let lines = config.tree().expect("a tree").leaves().into_iter().map(|(path, node)| {
        let replaced: Vec<String> =
            node.replaced.iter().map(|replaced| format!("{} {}", replaced.origin, replaced.value.to_json())).collect();
        format!("{path} = {} | {} | {}", node.to_json(), node.origin, replaced.join(" < "))
    });
    let text = lines.collect::<Vec<_>>().join("\n").replace(&format!("{}/", folder.0.path().display()), "");
    insta::assert_snapshot!(text);
    let x = ProfileName::new("x").expect("a name");
    assert_eq!(config.profiles[&x].grants, ["folder:/d:rw".parse().expect("a grant")]);
    assert!(config.is_of_project(&x));
    assert_eq!(config.limits["run_events_max"], 7);
}

#[test]
fn a_project_gives_itself_no_rights() {
    let folder = Folder::new(&[
        TOP,
        DEEP,
        (
            PROJECT,
            "profiles:\n  x:\n    grants: [shell]\n    secrets: {K: 'env:K'}\n    settings:\n      key: {secret: K}\n  y: {sandbox: {mode: own}}\n\
             secrets: {K: 'file:/etc/shadow'}\ncertificate_authorities: [ca.pem]\nenvironment_variables: [HOME]\n\
             vault: {}\npaths: {data_root: /}\nlimits: {run_events_max: 999999999, grace_ms: 1}\n",
        ),
    ]);
    insta::assert_snapshot!(folder.refused(&[]));
}

#[test]
fn references_stay_on_their_side() {
    let of_project = |text| {
        Folder::new(&[TOP, DEEP, (PROJECT, text), (OPERATOR, "environment_variables: [HOME]\nsecrets: {K: 'env:K'}\n")])
    };
    let shown = [
        of_project("profiles: {x: {settings: {a: '${oc.env:HOME}'}}}\n").refused(&[]),
        of_project("profiles: {x: {settings: {a: '${secrets.K}'}}}\n").refused(&[]),
        // What a project sets does not become a grant by way of the operator's own reference.
        Folder::new(&[
            TOP,
            DEEP,
            (PROJECT, "profiles: {x: {settings: {url: 'https://evil'}}}\n"),
            (OPERATOR, "profiles:\n  x:\n    grants: ['http:${profiles.x.settings.url}']\n"),
        ])
        .refused(&[]),
    ];
    insta::assert_snapshot!(shown.join("\n"));
}

#[test]
fn broken_layers_say_where() {
    let shown = [
        Folder::new(&[("operator/role.yaml", "research: {}\n")]).refused(&[]),
        Folder::new(&[("operator/environment.yaml", "devel: {}\n")]).refused(&[]),
        Folder::new(&[("operator/environment.yaml", "dev:\n  limit: {}\n  profiles: {x: {grants: shell}}\n")])
            .refused(&[]),
        Folder::new(&[(OPERATOR, "limits: {a: 1}\n"), ("operator/machine.yaml", "bridge: {limits: [1]}\n")])
            .refused(&[]),
        Folder::new(&[
            (OPERATOR, "secrets: {A: '${secrets.B}'}\n"),
            ("operator/machine.yaml", "bridge: {secrets: {B: '${secrets.A}'}}\n"),
        ])
        .refused(&[]),
        Folder::new(&[(OPERATOR, "secrets: {A: 'env:${oc.env:USER}'}\n")]).refused(&[]),
        Folder::new(&[(OPERATOR, "environment_variables: ['${oc.env:USER}']\n")]).refused(&[]),
        Folder::new(&[("operator/config.yaml/x", "")]).refused(&[]),
        Folder::new(&[]).refused(&["limits.events=1", "limits.grace_ms=soon"]),
        Folder::new(&[]).refused(&["limits"]),
    ];
    insta::assert_snapshot!(shown.join("\n\n"));
}

#[test]
fn a_project_ends_where_its_repository_does() {
    let folder = Folder::new(&[
        ("midplane.yaml", ""),
        ("a/.git/HEAD", ""),
        ("a/b/c/x", ""),
        ("d/e/x", ""),
        ("d/midplane.yaml", ""),
    ]);
    let found = |name: &str| Sources::new("/none").project_of(&folder.0.path().join(name)).project;
    assert_eq!(found("a/b/c"), None);
    assert_eq!(found("d/e"), None);
    assert_eq!(found("d"), Some(folder.0.path().join("d/midplane.yaml")));
    fs::write(folder.0.path().join("a/midplane.yaml"), "").expect("a file");
    assert_eq!(found("a/b/c"), Some(folder.0.path().join("a/midplane.yaml")));
}
