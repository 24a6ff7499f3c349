//! Where state lives: `MIDPLANE_HOME`, else the XDG folders.

use std::path::{Path, PathBuf};

use midplane_core::{Error, Result};

/// The folders of one installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// The configuration file is in here.
    pub config: PathBuf,
    /// Store, artifacts and owner locks are in here. Shared by all processes of the user.
    pub data: PathBuf,
    /// What can be made again: compiled plugins.
    pub cache: PathBuf,
}

impl Paths {
    /// All of it below one folder.
    #[must_use]
    pub fn under(home: &Path) -> Self {
        Self { config: home.to_owned(), data: home.join("data"), cache: home.join("cache") }
    }

    /// As the environment says. `get` reads a variable, so that this can be tested without one.
    pub fn from_env(get: impl Fn(&str) -> Option<std::ffi::OsString>) -> Result<Self> {
        let set = |name: &str| get(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        if let Some(home) = set("MIDPLANE_HOME") {
            return Ok(Self::under(&std::path::absolute(&home).unwrap_or(home)));
        }
        let home = set("HOME");
        // The XDG specification: a relative path in one of its variables is to be ignored.
        let folder = |variable: &str, below_home: &str| {
            set(variable).filter(|path| path.is_absolute()).or_else(|| home.as_ref().map(|home| home.join(below_home)))
        };
        let all = (
            folder("XDG_CONFIG_HOME", ".config"),
            folder("XDG_DATA_HOME", ".local/share"),
            folder("XDG_CACHE_HOME", ".cache"),
        );
        let (Some(config), Some(data), Some(cache)) = all else {
            return Err(Error::invalid("home", "neither `MIDPLANE_HOME` nor `HOME` is set")
                .hint("set `MIDPLANE_HOME` to a folder for Midplane's state"));
        };
        Ok(Self { config: config.join("midplane"), data: data.join("midplane"), cache: cache.join("midplane") })
    }

    /// Where local programs have their homes, a folder a profile.
    #[must_use]
    pub fn homes(&self) -> PathBuf {
        self.data.join("homes")
    }

    /// The configuration file.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.config.join("config.yaml")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environment_decides() {
        let paths = |vars: &[(&str, &str)]| {
            let vars: Vec<(String, String)> = vars.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect();
            Paths::from_env(move |name| vars.iter().find(|(k, _)| k == name).map(|(_, v)| v.into()))
        };
        assert_eq!(paths(&[("MIDPLANE_HOME", "/m"), ("HOME", "/h")]).expect("paths").data, Path::new("/m/data"));
        let xdg = paths(&[("XDG_DATA_HOME", "/d"), ("XDG_CACHE_HOME", "relative"), ("HOME", "/h")]).expect("paths");
        assert_eq!(xdg.data, Path::new("/d/midplane"));
        assert_eq!(xdg.cache, Path::new("/h/.cache/midplane"));
        assert_eq!(xdg.config, Path::new("/h/.config/midplane"));
        assert_eq!(paths(&[("MIDPLANE_HOME", "")]).expect_err("none").code, "home");
    }
}
