//! `midplane agents`: what each agent can do and refuses, by its own word.

use midplane::AgentView;
use midplane::core::Error;
use midplane::core::capability::FEATURES;
use serde_json::{Value, json};

use crate::app::App;
use crate::exit::Exit;
use crate::render::table::{Grid, fields};

/// Show what each agent can do, and what it refuses and why; nothing is started or sent
#[derive(Debug, clap::Args)]
pub(crate) struct AgentsArgs {
    /// Only this profile, in full
    profile: Option<String>,
    /// As a table in Markdown, as the documentation has it
    #[arg(long, conflicts_with = "profile")]
    markdown: bool,
}

pub(crate) async fn run(app: &App, args: AgentsArgs) -> anyhow::Result<Exit> {
    let host = app.host().await?;
    if let Some(profile) = args.profile {
        let agent = host.agent(&profile).await?;
        app.answer(&agent, || show(&agent))?;
        return Ok(Exit::Done);
    }
    let (mut agents, mut failed) = (Vec::new(), Vec::new());
    for profile in host.profiles().await? {
        if profile.kind.is_some_and(|kind| kind != "agent") {
            continue;
        }
        let name = profile.name.to_string();
        match host.agent(&name).await {
            Ok(agent) => agents.push(agent),
            Err(error) => failed.push((name, error)),
        }
    }
    if args.markdown && !app.json {
        app.print(&markdown(&agents))?;
        return Ok(Exit::Done);
    }
    app.answer(&document(&agents, &failed), || list(&agents, &failed))?;
    Ok(Exit::Done)
}

fn document(agents: &[AgentView], failed: &[(String, Error)]) -> Vec<Value> {
    let mut all: Vec<Value> = agents.iter().map(|agent| json!(agent)).collect();
    all.extend(failed.iter().map(|(profile, error)| json!({ "profile": profile, "error": error })));
    all
}

/// The features down, the agents across: there are always as many features, and only a few agents.
fn matrix(agents: &[AgentView]) -> Vec<Vec<String>> {
    let head = std::iter::once("FEATURE".to_owned()).chain(agents.iter().map(|agent| agent.profile.to_string()));
    let mut rows = vec![head.collect::<Vec<_>>()];
    for (feature, meaning) in FEATURES {
        let cells = agents.iter().map(|agent| {
            let has = agent.features.iter().any(|name| name == feature);
            if has { "yes".to_owned() } else { "-".to_owned() }
        });
        rows.push(std::iter::once(format!("{feature} ({meaning})")).chain(cells).collect());
    }
    rows
}

fn rejections(agents: &[AgentView]) -> Vec<[String; 3]> {
    let of = |agent: &AgentView| {
        let profile = agent.profile.to_string();
        let rows = agent.rejects.iter().map(move |one| [profile.clone(), one.asked.clone(), one.why.clone()]);
        rows.collect::<Vec<_>>()
    };
    agents.iter().flat_map(of).collect()
}

fn list(agents: &[AgentView], failed: &[(String, Error)]) -> String {
    let mut grid = Grid::default();
    matrix(agents).into_iter().for_each(|row| grid.row(row));
    let mut text = grid.text();
    let rejected = rejections(agents);
    if !rejected.is_empty() {
        let mut grid = Grid::default();
        grid.row(["PROFILE", "REFUSES", "WHY"].map(str::to_owned).to_vec());
        rejected.into_iter().for_each(|row| grid.row(row.to_vec()));
        text.push('\n');
        text.push_str(&grid.text());
    }
    for (profile, error) in failed {
        text.push_str(&format!("\n`{profile}` does not load: {}\n", error.message));
    }
    text
}

/// The same for the documentation.
fn markdown(agents: &[AgentView]) -> String {
    let line = |cells: &[String]| {
        format!("| {} |\n", cells.iter().map(|cell| cell.replace('|', "\\|")).collect::<Vec<_>>().join(" | "))
    };
    let rows = matrix(agents);
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        text.push_str(&line(row));
        if index == 0 {
            text.push_str(&line(&vec!["---".to_owned(); row.len()]));
        }
    }
    text.push('\n');
    text.push_str(&line(&["agent", "refuses", "why"].map(str::to_owned)));
    text.push_str(&line(&["---", "---", "---"].map(str::to_owned)));
    for row in rejections(agents) {
        text.push_str(&line(&row));
    }
    text
}

fn show(agent: &AgentView) -> String {
    let mut rows =
        vec![("profile", agent.profile.to_string()), ("plugin", format!("{} {}", agent.plugin, agent.version))];
    let line = |name: &str, meaning: &str| format!("{name} ({meaning})");
    let can = agent.features.iter().map(|name| {
        // A plugin may declare what this host does not know yet.
        FEATURES
            .iter()
            .find(|(known, _)| known == name)
            .map_or_else(|| name.clone(), |(_, meaning)| line(name, meaning))
    });
    rows.push(("can", can.collect::<Vec<_>>().join("\n")));
    let lacks = FEATURES.iter().filter(|(feature, _)| !agent.features.iter().any(|name| name == feature));
    rows.push(("cannot", lacks.map(|(name, meaning)| line(name, meaning)).collect::<Vec<_>>().join("\n")));
    if !agent.limits.is_empty() {
        rows.push((
            "limits",
            agent.limits.iter().map(|(name, value)| format!("{name} = {value}")).collect::<Vec<_>>().join("\n"),
        ));
    }
    if !agent.rejects.is_empty() {
        let rejects = agent.rejects.iter().map(|one| format!("{}: {}", one.asked, one.why));
        rows.push(("refuses", rejects.collect::<Vec<_>>().join("\n")));
    }
    fields(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use midplane::Rejection;
    use midplane::core::ProfileName;

    #[test]
    fn a_matrix() {
        console::set_colors_enabled(false);
        let agent = |name: &str, features: &[&str], rejects: &[(&str, &str)]| AgentView {
            profile: ProfileName::new(name).expect("a name"),
            plugin: name.to_owned(),
            version: "0.1.0".to_owned(),
            features: features.iter().map(|name| (*name).to_owned()).collect(),
            limits: vec![("turns".to_owned(), 9)],
            rejects: rejects
                .iter()
                .map(|(asked, why)| Rejection { asked: (*asked).to_owned(), why: (*why).to_owned() })
                .collect(),
        };
        let agents = [
            agent("one", &["streaming", "files"], &[("permissions.network: true", "it has no `a|b`")]),
            agent("two", &["streaming"], &[]),
        ];
        let failed = [("three".to_owned(), Error::invalid("setting", "it is wrong"))];
        insta::assert_snapshot!(format!("{}\n{}\n{}", list(&agents, &failed), markdown(&agents), show(&agents[0])));
    }
}
