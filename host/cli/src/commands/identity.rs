//! `midplane identity`: who runs where, and how that is known.

use midplane::core::identity::{FIELDS, Fact};
use midplane::identity::{Identified, Stated, identify};

use crate::app::App;
use crate::exit::Exit;
use crate::render::table::{Table, fields};

/// Show who runs where, and how that is known
#[derive(Debug, clap::Args)]
pub(crate) struct IdentityCommand {
    #[command(flatten)]
    pub(crate) stated: IdentityArgs,
    /// Show where each value comes from, and all that was found out
    #[arg(long)]
    explain: bool,
}

/// What is stated of the identity; else `MIDPLANE_APP`, `MIDPLANE_ENVIRONMENT` and so on, else what is found out.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Identity")]
pub(crate) struct IdentityArgs {
    /// Application [else `MIDPLANE_APP`, else `midplane`]
    #[arg(long, value_name = "NAME")]
    app: Option<String>,
    #[command(flatten)]
    parts: PartArgs,
}

/// The parts of an identity that select layers of the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub(crate) struct PartArgs {
    /// Environment, for `environment.yaml` [else `MIDPLANE_ENVIRONMENT`, else `local`]
    #[arg(long, value_name = "NAME")]
    pub(crate) environment: Option<String>,
    /// Machine, for `machine.yaml` [else `MIDPLANE_MACHINE`, else by the host name]
    #[arg(long, value_name = "NAME")]
    pub(crate) machine: Option<String>,
    /// Substrate, for `substrate.yaml` [else `MIDPLANE_SUBSTRATE`, else by the evidence]
    #[arg(long, value_name = "NAME")]
    pub(crate) substrate: Option<String>,
    /// Role, for `role.yaml` and policies of secrets [else `MIDPLANE_ROLE`, else `operator`]
    #[arg(long, value_name = "NAME")]
    pub(crate) role: Option<String>,
}

impl IdentityArgs {
    /// For the library.
    pub(crate) fn stated(&self) -> Stated {
        let Self { app, parts: PartArgs { environment, machine, substrate, role } } = self.clone();
        Stated { app, environment, machine, substrate, role }
    }
}

pub(crate) async fn run(app: &App, command: IdentityCommand) -> anyhow::Result<Exit> {
    let found = identify(&command.stated.stated())?;
    app.answer(&found, || text(&found, command.explain))?;
    Ok(Exit::Done)
}

/// The identity, and if wanted the sources and facts.
pub(crate) fn text(found: &Identified, explain: bool) -> String {
    if !explain {
        let values: Vec<(&str, String)> =
            FIELDS.into_iter().zip(found.identity.fields().map(|(_, value)| value.to_owned())).collect();
        return fields(&values);
    }
    let mut table = Table::new(["FIELD", "VALUE", "SOURCE"]);
    for field in &found.sources {
        table.row([field.field.to_owned(), field.value.clone(), field.source.clone()]);
    }
    let mut facts = Table::new(["FACT", "VALUE", "CONFIDENCE", "SOURCE", "NOTE"]);
    for Fact { name, value, source, confidence, note } in found.facts.iter() {
        let note = note.clone().unwrap_or_default();
        facts.row([(*name).to_owned(), value.clone(), confidence.as_str().to_owned(), source.clone(), note]);
    }
    format!("{}\n{}", table.text(""), facts.text(""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use midplane::core::identity::{Evidence, discover};
    use midplane::identity::identify_by;

    /// An identity in a container of a CI job.
    pub(crate) fn found() -> Identified {
        let evidence = Evidence {
            hostname: "0123456789ab".to_owned(),
            markers: ["/.dockerenv".to_owned()].into(),
            variables: [("GITHUB_ACTIONS".to_owned(), "true".to_owned())].into(),
            ..Evidence::default()
        };
        let stated = Stated { machine: Some("builder".to_owned()), ..Stated::default() };
        let role = |name: &str| (name == "MIDPLANE_ROLE").then(|| "research".to_owned());
        identify_by(&stated, discover(&evidence), role).expect("an identity")
    }

    #[test]
    fn an_identity_is_shown() {
        console::set_colors_enabled(false);
        insta::assert_snapshot!(format!("{}----\n{}", text(&found(), false), text(&found(), true)));
    }
}
