//! Markers (PEP 508) compared by what they mean: tools rewrite them, so that the same marker has many texts.
//!
//! Two markers are the same if they come to the same in every environment that matters: each version of Python that the project
//! allows, and for each other variable the texts that the markers name and one that they do not.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use pep440_rs::{Version, VersionSpecifiers};

/// Nested parentheses.
const DEPTH_MAX: usize = 32;

/// Combinations of the texts of variables that are tried.
const COMBINATIONS_MAX: usize = 1_000;

/// Whether two markers mean the same where a project is allowed to run; none stands for "always". What cannot be read is compared as
/// text. `extra`, which says what a requirement belongs to, counts as true.
pub(super) fn same(one: Option<&str>, other: Option<&str>, requires_python: Option<&str>) -> bool {
    let tree = |marker: Option<&str>| marker.map_or(Some(Tree::All(Vec::new())), Tree::parse);
    let (Some(a), Some(b)) = (tree(one), tree(other)) else { return one == other };
    let mut values: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut patches = BTreeSet::from([0, 40]);
    for comparison in [&a, &b].into_iter().flat_map(Tree::comparisons) {
        match comparison.variable.as_str() {
            "python_version" | "python_full_version" => {
                // Beside a version that is named lie those just before and after it.
                let patch = comparison.text.split('.').nth(2).and_then(|patch| patch.parse::<u64>().ok()).unwrap_or(0);
                patches.extend([patch.saturating_sub(1), patch, patch.saturating_add(1)]);
            }
            variable => {
                values.entry(variable).or_default().extend([comparison.text.as_str(), "\u{0}"]);
            }
        }
    }
    let combinations = values.values().try_fold(1, |all: usize, own| all.checked_mul(own.len()));
    if combinations.is_none_or(|all| all > COMBINATIONS_MAX) || patches.len() > 50 {
        return one == other;
    }
    let allowed = requires_python.and_then(|text| VersionSpecifiers::from_str(text).ok()).unwrap_or_default();
    let pythons = (0..=30).flat_map(|minor| patches.iter().map(move |patch| [3, minor, *patch]));
    let pythons: Vec<[u64; 3]> = pythons.filter(|python| allowed.contains(&Version::new(*python))).collect();
    (0..combinations.unwrap_or(1)).all(|mut number| {
        let environment: BTreeMap<&str, &str> = values
            .iter()
            .filter_map(|(variable, texts)| {
                let text = texts.iter().nth(number % texts.len())?;
                number /= texts.len();
                Some((*variable, *text))
            })
            .collect();
        pythons.iter().all(|python| a.holds(*python, &environment) == b.holds(*python, &environment))
    })
}

enum Tree {
    All(Vec<Tree>),
    Any(Vec<Tree>),
    One(Comparison),
}

/// `variable operator 'text'`.
struct Comparison {
    variable: String,
    operator: String,
    text: String,
    /// Written the other way round, which matters to `in`.
    is_reversed: bool,
}

impl Tree {
    fn parse(marker: &str) -> Option<Self> {
        let mut tokens = tokens(marker)?.into_iter().peekable();
        let tree = Self::any(&mut tokens, 0)?;
        tokens.next().is_none().then_some(tree)
    }

    fn any(tokens: &mut Tokens, depth: usize) -> Option<Self> {
        let mut trees = vec![Self::all(tokens, depth)?];
        while tokens.next_if(|token| token == "or").is_some() {
            trees.push(Self::all(tokens, depth)?);
        }
        Some(Self::Any(trees))
    }

    fn all(tokens: &mut Tokens, depth: usize) -> Option<Self> {
        let mut trees = vec![Self::one(tokens, depth)?];
        while tokens.next_if(|token| token == "and").is_some() {
            trees.push(Self::one(tokens, depth)?);
        }
        Some(Self::All(trees))
    }

    fn one(tokens: &mut Tokens, depth: usize) -> Option<Self> {
        if tokens.next_if(|token| token == "(").is_some() {
            let tree = (depth < DEPTH_MAX).then(|| Self::any(tokens, depth + 1))??;
            return tokens.next_if(|token| token == ")").map(|_| tree);
        }
        let left = tokens.next()?;
        let mut operator = tokens.next()?;
        if operator == "not" {
            operator = format!("not {}", tokens.next_if(|token| token == "in")?);
        }
        let right = tokens.next()?;
        let is_reversed = left.starts_with('\'');
        let (variable, text) = if is_reversed { (right, left) } else { (left, right) };
        let text = text.strip_prefix('\'')?.to_owned();
        let operator = match (is_reversed, operator.as_str()) {
            (true, "<") => ">".to_owned(),
            (true, ">") => "<".to_owned(),
            (true, "<=") => ">=".to_owned(),
            (true, ">=") => "<=".to_owned(),
            _ => operator,
        };
        // Older spellings of the same variables.
        let variable = match variable.replace('.', "_").as_str() {
            "python_implementation" => "platform_python_implementation".to_owned(),
            variable if variable.starts_with('\'') => return None,
            variable => variable.to_owned(),
        };
        Some(Self::One(Comparison { variable, operator, text, is_reversed }))
    }

    fn comparisons(&self) -> Vec<&Comparison> {
        match self {
            Self::One(comparison) if comparison.variable == "extra" => Vec::new(),
            Self::One(comparison) => vec![comparison],
            Self::All(trees) | Self::Any(trees) => trees.iter().flat_map(Self::comparisons).collect(),
        }
    }

    fn holds(&self, python: [u64; 3], environment: &BTreeMap<&str, &str>) -> bool {
        match self {
            Self::All(trees) => trees.iter().all(|tree| tree.holds(python, environment)),
            Self::Any(trees) => trees.iter().any(|tree| tree.holds(python, environment)),
            Self::One(comparison) => comparison.holds(python, environment),
        }
    }
}

impl Comparison {
    fn holds(&self, python: [u64; 3], environment: &BTreeMap<&str, &str>) -> bool {
        let version = match self.variable.as_str() {
            "extra" => return true,
            "python_version" => Version::new([python[0], python[1]]),
            "python_full_version" => Version::new(python),
            variable => {
                let value = environment.get(variable).copied().unwrap_or_default();
                let (part, whole) =
                    if self.is_reversed { (self.text.as_str(), value) } else { (value, self.text.as_str()) };
                return match self.operator.as_str() {
                    "==" | "===" => value == self.text,
                    "!=" => value != self.text,
                    "in" => whole.contains(part),
                    "not in" => !whole.contains(part),
                    // Orders of such texts are compared as one more fact about the variable.
                    _ => value == self.text,
                };
            }
        };
        let is = |text: &str| VersionSpecifiers::from_str(text).is_ok_and(|specifiers| specifiers.contains(&version));
        match self.operator.as_str() {
            "in" => self.text.split([' ', ',']).any(|text| is(&format!("=={text}"))),
            "not in" => !self.text.split([' ', ',']).any(|text| is(&format!("=={text}"))),
            operator => is(&format!("{operator}{}", self.text)),
        }
    }
}

type Tokens = std::iter::Peekable<std::vec::IntoIter<String>>;

/// Words, operators and parentheses; a text begins with `'` and has no other quote.
fn tokens(marker: &str) -> Option<Vec<String>> {
    let mut tokens = Vec::new();
    let mut rest = marker.trim_start();
    while let Some(first) = rest.chars().next() {
        let end = match first {
            '"' | '\'' => {
                let end = rest[1..].find(first)?;
                tokens.push(format!("'{}", &rest[1..=end]));
                rest = rest[end + 2..].trim_start();
                continue;
            }
            '(' | ')' => 1,
            '<' | '>' | '=' | '!' | '~' => rest.find(|c| !"<>=!~".contains(c)).unwrap_or(rest.len()),
            c if c.is_ascii_alphanumeric() || c == '_' => {
                rest.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '.'))).unwrap_or(rest.len())
            }
            _ => return None,
        };
        tokens.push(rest[..end].to_owned());
        rest = rest[end..].trim_start();
    }
    Some(tokens)
}

#[cfg(test)]
mod tests {
    use super::same;

    #[test]
    fn markers_are_compared_by_meaning() {
        let python = Some(">=3.9");
        let cases = [
            (Some("python_version < '3.8'"), Some("python_full_version < '3.8'"), true),
            (Some("python_version > '3.9'"), Some("python_full_version >= '3.10'"), true),
            (Some("python_version >= '3.8'"), None, true),
            (Some("python_version >= '3.10'"), None, false),
            (Some("'3.11' > python_version"), Some("python_full_version < '3.11'"), true),
            (Some("os_name == \"nt\" or sys.platform == 'x'"), Some("sys_platform == 'x' or os_name == 'nt'"), true),
            (Some("os_name == 'nt' and os_name != 'posix'"), Some("os_name == 'nt'"), true),
            (Some("os_name == 'nt'"), Some("os_name != 'nt'"), false),
            (Some("os_name == 'nt'"), Some("os_name == 'nt' and extra == 'a'"), true),
            (Some("platform_machine in 'x86 arm'"), Some("platform_machine in 'x86'"), false),
            (Some("((("), Some("((("), true),
            (Some("(os_name == 'a' or os_name == 'b') and os_name == 'a'"), Some("os_name == 'a'"), true),
        ];
        for (one, other, expected) in cases {
            assert_eq!(same(one, other, python), expected, "{one:?} {other:?}");
        }
    }
}
