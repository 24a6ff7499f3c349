//! Layers into one tree.
//!
//! The rules: mappings merge key by key and in depth; a list, null or any other value replaces what was there; a list never
//! meets a mapping; an empty mapping changes nothing; `???` keeps the value that is there. Keys stay in the order in which
//! they first appeared. A mapping that is merged onto a reference to a mapping is merged onto a copy of that.

use super::path::joined;
use super::resolve::{Got, Resolver, Variables};
use super::{DEPTH_MAX, NODES_MAX, Node, Origin, Refused, Replaced, Source, Value};

/// Merged layers, in which references are not yet followed.
#[derive(Debug, Clone, PartialEq)]
pub struct Merged {
    root: Node,
}

/// Merges sources, from low to high. `variables` matter where a mapping is merged onto an expression.
pub fn merge(sources: impl IntoIterator<Item = Source>, variables: &Variables) -> Result<Merged, Refused> {
    let mut sources = sources.into_iter();
    let Some(first) = sources.next() else {
        let nowhere = Origin { layer: super::Layer::Default, file: "".into(), at: None };
        return Ok(Merged { root: Node::new(Value::Map(indexmap::IndexMap::new()), nowhere) });
    };
    let mut merging = Merging { root: first.root, variables, copied: 0 };
    for source in sources {
        merging.map(&mut Vec::new(), source.root)?;
    }
    Ok(Merged { root: merging.root })
}

impl Merged {
    /// The tree as it was written.
    #[must_use]
    pub fn root(&self) -> &Node {
        &self.root
    }

    pub(super) fn into_root(self) -> Node {
        self.root
    }

    /// The tree with every reference followed. Fails with every reference that leads nowhere.
    pub fn resolve(&self, variables: &Variables) -> Result<Node, Refused> {
        Resolver::new(&self.root, variables).whole()
    }
}

struct Merging<'v> {
    root: Node,
    variables: &'v Variables,
    /// Values that were copied from where expressions refer to.
    copied: usize,
}

impl Merging<'_> {
    /// Merges a mapping onto the one at a path, key by key: a reference in the next key already sees this one.
    fn map(&mut self, path: &mut Vec<String>, source: Node) -> Result<(), Refused> {
        let Value::Map(entries) = source.value else { return Ok(()) };
        for (key, node) in entries {
            path.push(key);
            self.node(path, node)?;
            path.pop();
        }
        Ok(())
    }

    fn node(&mut self, path: &mut Vec<String>, node: Node) -> Result<(), Refused> {
        let Some(there) = self.find(path) else {
            self.put(path, node);
            return Ok(());
        };
        let meets_container = matches!(node.value, Value::Map(_) | Value::List(_)) || node.value.is_mandatory();
        if matches!(there.value, Value::Expression(_)) && meets_container {
            self.expand(path)?;
        }
        let Some(there) = self.find(path) else { return Ok(()) };
        match (&there.value, &node.value) {
            (_, value) if value.is_mandatory() => Ok(()),
            (Value::Map(_), Value::Map(_)) => self.map(path, node),
            (Value::Map(_), Value::List(_)) | (Value::List(_), Value::Map(_)) => {
                let field = path.iter().fold(String::new(), |field, key| joined(&field, key));
                let message =
                    format!("it is {} here and {} in {}", node.value.kind(), there.value.kind(), there.origin);
                Err(Refused::at(&node.origin, &field, "config-merge", message)
                    .hint("use one of the two in both, or set it to null in a layer between"))
            }
            _ => {
                self.put(path, node);
                Ok(())
            }
        }
    }

    fn find(&self, path: &[String]) -> Option<&Node> {
        path.iter().try_fold(&self.root, |node, key| node.entries()?.get(key))
    }

    /// Puts a node at a path, and what was there into its history.
    fn put(&mut self, path: &[String], mut node: Node) {
        let Some((last, parents)) = path.split_last() else { return };
        let parent = parents.iter().try_fold(&mut self.root, |node, key| match &mut node.value {
            Value::Map(map) => map.get_mut(key),
            _ => None,
        });
        let Some(Value::Map(map)) = parent.map(|node| &mut node.value) else { return };
        match map.get_mut(last) {
            Some(there) => {
                node.replaced = std::mem::take(&mut there.replaced);
                let value = std::mem::replace(&mut there.value, Value::Null);
                node.replaced.push(Replaced { value, origin: there.origin.clone() });
                *there = node;
            }
            None => drop(map.insert(last.clone(), node)),
        }
    }

    /// Puts a copy of the mapping or list that an expression refers to in its place. An expression that comes to anything
    /// else, or to nothing, stays: it is about to be replaced.
    fn expand(&mut self, path: &[String]) -> Result<(), Refused> {
        let mut resolver = Resolver::new(&self.root, self.variables);
        let Ok(Some(Got::At(target))) = resolver.select(path) else { return Ok(()) };
        if !matches!(target.node.value, Value::Map(_) | Value::List(_)) {
            return Ok(());
        }
        let (nodes, height) = size(target.node);
        self.copied += nodes;
        if self.copied > NODES_MAX || path.len() + height > DEPTH_MAX {
            let field = path.iter().fold(String::new(), |field, key| joined(&field, key));
            return Err(Refused::at(
                &target.node.origin,
                &field,
                "config-too-large",
                format!(
                    "merging onto references copies more than {NODES_MAX} values, or nests more than {DEPTH_MAX} deep"
                ),
            ));
        }
        let copy = target.node.value.clone();
        let target = target.node.origin.clone();
        drop(resolver);
        self.put(path, Node::new(copy, target));
        Ok(())
    }
}

/// How many values a tree has, and how deep it is.
fn size(node: &Node) -> (usize, usize) {
    let below = |nodes: &mut dyn Iterator<Item = &Node>| {
        nodes.map(size).fold((1, 1), |(count, height), (more, deep)| (count + more, height.max(deep + 1)))
    };
    match &node.value {
        Value::Map(map) => below(&mut map.values()),
        Value::List(list) => below(&mut list.iter()),
        _ => (1, 1),
    }
}
