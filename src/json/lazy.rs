//! An object whose members become trees only when a condition reads them.

use std::borrow::Cow;
use std::sync::OnceLock;

use super::reader::{Kind, Reader};
use super::{Found, Json, JsonError, Object};

/// An object that was checked completely: it is well-formed, and no object in it holds a duplicate
/// key. Lists and objects in it become trees when they are first read.
///
/// The allowance is the number of values and keys that may be built or compared. Each value and key
/// is charged before memory is allocated for it.
#[derive(Debug, Default)]
pub struct LazyObject<'a>(Object<'a, Lazy<'a>>);

/// A member of a [`LazyObject`].
#[derive(Debug)]
pub struct Lazy<'a> {
    /// The text of the member; empty if the tree exists.
    text: &'a str,
    max_depth: usize,
    tree: OnceLock<Json<'a>>,
}

impl<'a> LazyObject<'a> {
    /// Reads the text of an object.
    ///
    /// # Errors
    /// If this object or a nested one holds a duplicate key, or if the allowance is used up.
    pub fn read(text: &'a str, max_depth: usize, allowance: &mut usize) -> Result<Self, JsonError> {
        let mut reader = Reader::with_allowance(text, max_depth, *allowance);
        let (mut members, mut keys) = (Vec::new(), Vec::new());
        let read = reader.object(|reader, key| {
            reader.take_key(&key)?;
            members.push((key.into(), Lazy::read(reader, &mut keys)?));
            Ok(())
        });
        let read = read.and_then(|()| reader.end());
        *allowance = reader.allowance();
        read?;
        let object = Object::new(members);
        object.map(Self).map_err(|fault| JsonError { fault, offset: reader.offset() })
    }

    /// Returns the member called `name`, as [`Object::find`] does.
    pub fn find(&self, name: &str) -> Found<'_, Lazy<'a>> {
        self.0.find(name)
    }

    /// Finds two keys that are equal except for letter case.
    pub fn case_variants(&self) -> Option<(&str, &str)> {
        self.0.case_variants()
    }

    /// Returns the members, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Lazy<'a>)> {
        self.0.iter()
    }

    /// Returns the number of members.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns true if there is no member.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> Lazy<'a> {
    fn read(reader: &mut Reader<'a>, keys: &mut Vec<Cow<'a, str>>) -> Result<Self, JsonError> {
        let max_depth = reader.max_depth();
        match reader.peek()? {
            Kind::Array | Kind::Object => {
                let start = reader.offset();
                reader.take(1)?;
                reader.check(keys)?;
                Ok(Self { text: reader.since(start), max_depth, tree: OnceLock::new() })
            }
            _ => Ok(Self { text: "", max_depth, tree: reader.value()?.into() }),
        }
    }

    /// Returns true for `null`.
    pub fn is_null(&self) -> bool {
        matches!(self.tree.get(), Some(Json::Null))
    }

    /// Returns true for a string.
    pub fn is_string(&self) -> bool {
        matches!(self.tree.get(), Some(Json::String(_)))
    }

    /// Returns true for `null` and for a string, list or object with nothing in it.
    pub fn is_empty(&self) -> bool {
        match self.tree.get() {
            Some(Json::Null) => true,
            Some(Json::String(text)) => text.is_empty(),
            Some(Json::Array(items)) => items.is_empty(),
            Some(Json::Object(members)) => members.is_empty(),
            Some(_) => false,
            // This member is a list or an object that has not become a tree yet.
            None => {
                let inner = self.text.trim_start_matches(['[', '{']).trim_start();
                matches!(inner, "]" | "}")
            }
        }
    }

    /// Returns true if the member was read into a tree.
    pub fn is_built(&self) -> bool {
        self.tree.get().is_some()
    }

    /// Returns the tree; `None` if the tree has more values and keys than the allowance.
    pub fn tree(&self, allowance: &mut usize) -> Option<&Json<'a>> {
        if let Some(tree) = self.tree.get() {
            return Some(tree);
        }
        let mut reader = Reader::with_allowance(self.text, self.max_depth, *allowance);
        let tree = reader.value();
        *allowance = reader.allowance();
        // The text was already checked, so only the allowance can fail.
        let tree = tree.ok()?;
        Some(self.tree.get_or_init(|| tree))
    }
}
