//! The conditions of a file, each compiled once however often it stands there.

use std::collections::{BTreeSet, HashMap};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread::{self, available_parallelism};

use super::yaml::{Node, Scalar, Value};
use crate::policy::{Condition, ConditionError};

/// The keys whose values are conditions.
const KEYS: [&str; 2] = ["when", "cel"];
/// Fewer are compiled before other processors have woken up.
const WORTH_A_THREAD: usize = 200;

type Compiled = Result<Arc<Condition>, Vec<ConditionError>>;

/// Compiled conditions by their text.
#[derive(Debug, Default)]
pub(super) struct Conditions(HashMap<String, Compiled>);

impl Conditions {
    /// Compiles all that stand in a document, on all processors if they are many.
    pub(super) fn of(document: &Node) -> Self {
        let mut texts = BTreeSet::new();
        collect(document, &mut texts);
        let texts: Vec<&str> = texts.into_iter().collect();
        let cores = available_parallelism().map_or(1, NonZeroUsize::get);
        let share = texts.len().div_ceil(cores).max(WORTH_A_THREAD);
        let compile = |texts: &[&str]| -> Vec<(String, Compiled)> {
            texts.iter().map(|text| ((*text).to_owned(), compile(text))).collect()
        };
        let compiled = thread::scope(|scope| {
            let threads: Vec<_> =
                texts.chunks(share).map(|texts| scope.spawn(move || compile(texts))).collect();
            // What a thread failed to compile is compiled when it is asked for.
            threads.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect()
        });
        Self(compiled)
    }

    /// The condition of this text.
    pub(super) fn get(&mut self, text: &str) -> Compiled {
        match self.0.get(text) {
            Some(compiled) => compiled.clone(),
            None => {
                let compiled = compile(text);
                self.0.insert(text.to_owned(), compiled.clone());
                compiled
            }
        }
    }
}

fn compile(text: &str) -> Compiled {
    Condition::compile(text).map(Arc::new)
}

fn collect<'n>(node: &'n Node, texts: &mut BTreeSet<&'n str>) {
    match &node.value {
        Value::Scalar(_) => {}
        Value::Sequence(items) => items.iter().for_each(|item| collect(item, texts)),
        Value::Mapping(members) => {
            for (key, node) in members {
                match &node.value {
                    Value::Scalar(Scalar { text, .. }) if KEYS.contains(&key.name.as_str()) => {
                        texts.insert(text);
                    }
                    _ => collect(node, texts),
                }
            }
        }
    }
}
