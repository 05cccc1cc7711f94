//! The conditions of a file. Each is compiled once, even if the file repeats it.

use std::collections::{BTreeSet, HashMap};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread::{self, Builder, available_parallelism};

use super::yaml::{Node, Scalar, Value};
use crate::policy::{Condition, ConditionError, Dialect};

/// The keys whose values are conditions.
const KEYS: [&str; 2] = ["when", "cel"];
/// The fewest conditions for one more thread. Fewer are compiled before another processor wakes up.
const WORTH_A_THREAD: usize = 200;
/// The stack of a compiling thread, in bytes. The parser recurses as deep as an expression is
/// nested.
const STACK_BYTES: usize = 64 << 20;

type Compiled = Result<Arc<Condition>, Vec<ConditionError>>;

/// The compiled conditions, by source text.
#[derive(Debug)]
pub(super) struct Conditions {
    compiled: HashMap<String, Compiled>,
    dialect: Dialect,
}

impl Conditions {
    /// Compiles all conditions of a document, on all processors if the document has many.
    pub(super) fn of(document: &Node, dialect: Dialect) -> Self {
        let mut texts = BTreeSet::new();
        collect(document, &mut texts);
        let texts: Vec<&str> = texts.into_iter().collect();
        let cores = available_parallelism().map_or(1, NonZeroUsize::get);
        let share = texts.len().div_ceil(cores).max(WORTH_A_THREAD);
        let compile = |texts: &[&str]| -> Vec<(String, Compiled)> {
            texts.iter().map(|text| ((*text).to_owned(), compile(text, dialect))).collect()
        };
        let compiled = thread::scope(|scope| {
            let spawn = |texts| {
                let builder = Builder::new().stack_size(STACK_BYTES);
                builder.spawn_scoped(scope, move || compile(texts))
            };
            let threads: Vec<_> = texts.chunks(share).map(spawn).collect();
            // If a thread fails, `get` compiles its conditions.
            let joined = threads.into_iter().filter_map(Result::ok).map(|thread| thread.join());
            joined.flat_map(Result::unwrap_or_default).collect()
        });
        Self { compiled, dialect }
    }

    /// Returns the compiled condition with this source text.
    pub(super) fn get(&mut self, text: &str) -> Compiled {
        match self.compiled.get(text) {
            Some(compiled) => compiled.clone(),
            None => {
                let compiled = compile(text, self.dialect);
                self.compiled.insert(text.to_owned(), compiled.clone());
                compiled
            }
        }
    }
}

fn compile(text: &str, dialect: Dialect) -> Compiled {
    Condition::compile(text, dialect).map(Arc::new)
}

fn collect<'n>(node: &'n Node, texts: &mut BTreeSet<&'n str>) {
    match &node.value {
        Value::Scalar(_) | Value::Mistake => {}
        Value::Sequence(items) => items.iter().for_each(|item| collect(item, texts)),
        Value::Mapping(members) => {
            for (key, node) in members {
                match &node.value {
                    Value::Scalar(Scalar { text, .. }) if KEYS.contains(&key.as_str()) => {
                        texts.insert(text);
                    }
                    _ => collect(node, texts),
                }
            }
        }
    }
}
