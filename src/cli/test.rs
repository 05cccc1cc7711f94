//! The command `mcp-authz test`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ValueEnum;
use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesText, Event};
use serde_json::{Value, json};

use super::report::Report;
use super::{complain, findings, output, renderer};
use crate::admin;
use crate::config;
use crate::gate::Gate;
use crate::suite::{self, Case, Coverage, Difference, Gap};

/// Run tests of policies and say what they do not cover
///
/// A test file names a policy file and lists cases: a caller, a call, and what is
/// expected of it. A case that fails is shown with the difference and with what
/// matched, rule by rule. Coverage counts for each rule that it decided, and for
/// each condition that it was true and that it was false.
///
/// Exits with 0 if every case passes and coverage is enough, otherwise with 1.
#[derive(Debug, clap::Args)]
#[command(after_help = "A test file:\n  \
policy: policy.yaml\n  \
tests:\n  \
- name: who has the scope may echo\n    \
caller: {scopes: [echo]}\n    \
call: {tool: github__echo, arguments: {text: 'Hello, world!'}}\n    \
expect: {decision: Allow, rule: greetings}\n\n\
`mcp-authz schema tests` prints all its keys.")]
pub(super) struct Args {
    /// Files of tests (YAML or JSON)
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// The coverage that is enough, in percent, of each policy file
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    min_coverage: Option<u8>,

    /// For people, for programs, or for CI systems that read JUnit's XML
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    output: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
    Junit,
}

/// The results of a file of tests.
struct Ran {
    file: PathBuf,
    cases: Vec<Outcome>,
}

/// The result of a case.
struct Outcome {
    name: String,
    /// `FILE:LINE:COLUMN`
    place: String,
    differences: Vec<Difference>,
    /// The evaluation of the rules, one by one. Empty if the case passed.
    trace: String,
}

/// A policy that cases test, with its coverage.
struct Tested {
    gate: Gate,
    coverage: Coverage,
}

pub(super) fn run(args: &Args) -> ExitCode {
    let mut tested: BTreeMap<PathBuf, Tested> = BTreeMap::new();
    let mut ran = Vec::new();
    let mut is_good = true;
    for file in &args.files {
        match run_file(file, &mut tested) {
            Ok(cases) => ran.push(Ran { file: file.clone(), cases }),
            Err(error) => {
                is_good = false;
                complain(findings::text(&error.0, &renderer()).trim_end());
            }
        }
    }
    is_good &= ran.iter().flat_map(|ran| &ran.cases).all(|case| case.differences.is_empty());
    let written = match args.output {
        Format::Text => output(&text(&ran, &tested)),
        Format::Json => output(&format!("{:#}\n", json(&ran, &tested))),
        Format::Junit => match junit(&ran) {
            Ok(xml) => output(&xml),
            Err(error) => {
                complain(&format!("mcp-authz: {error}"));
                Err(())
            }
        },
    };
    for (policy, Tested { coverage, .. }) in &tested {
        let (reached, all) = coverage.reached_of();
        if let Some(enough) = args.min_coverage
            && reached * 100 < usize::from(enough) * all
        {
            is_good = false;
            let is = percent(reached, all);
            complain(&format!(
                "coverage of {} is {is} %, and --min-coverage is {enough} %",
                policy.display()
            ));
        }
    }
    if is_good && written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run_file(
    file: &Path,
    tested: &mut BTreeMap<PathBuf, Tested>,
) -> Result<Vec<Outcome>, config::LoadError> {
    let mut suite = suite::load(file)?;
    // Different paths of one policy file share one coverage.
    if let Ok(path) = suite.policy.canonicalize() {
        let here = std::env::current_dir().unwrap_or_default();
        suite.policy = path.strip_prefix(here).map(Path::to_owned).unwrap_or(path);
    }
    if !tested.contains_key(&suite.policy) {
        let gate = config::load(&suite.policy)?;
        let coverage = Coverage::new(&gate);
        tested.insert(suite.policy.clone(), Tested { gate, coverage });
    }
    let Some(Tested { gate, coverage }) = tested.get_mut(&suite.policy) else {
        return Ok(Vec::new());
    };
    Ok(suite.cases.iter().map(|case| outcome(file, case, gate, coverage)).collect())
}

fn outcome(file: &Path, case: &Case, gate: &Gate, coverage: &mut Coverage) -> Outcome {
    case.ask(gate, |admitted, judgement| {
        if let Ok(admitted) = admitted {
            coverage.add(admitted, judgement);
        }
        let differences = case.differences(gate, judgement);
        let trace = if differences.is_empty() {
            String::new()
        } else {
            let response = match admitted {
                Ok(admitted) => admin::judged(gate, admitted, judgement),
                Err(turned_away) => admin::turned_away(gate, turned_away),
            };
            Report::new(response).text()
        };
        let place = format!("{}:{}:{}", file.display(), case.place.line, case.place.column);
        Outcome { name: case.name.clone(), place, differences, trace }
    })
}

/// Formats a percentage with one decimal. Rounds down, so that 100 means all.
fn percent(reached: usize, all: usize) -> String {
    let tenths = (reached * 1000).checked_div(all).unwrap_or(1000);
    format!("{}.{}", tenths / 10, tenths % 10)
}

impl Outcome {
    fn failure(&self) -> String {
        let line = |Difference { what, expected, found }: &Difference| {
            format!("  {what}: expected {expected}, found {found}\n")
        };
        let differences: String = self.differences.iter().map(line).collect();
        let trace: String = self.trace.lines().map(|line| format!("  | {line}\n")).collect();
        format!("{differences}{trace}")
    }
}

fn text(ran: &[Ran], tested: &BTreeMap<PathBuf, Tested>) -> String {
    let mut text = String::new();
    for Ran { file, cases } in ran {
        for case in cases.iter().filter(|case| !case.differences.is_empty()) {
            text.push_str(&format!("FAILED {} ({})\n{}\n", case.name, case.place, case.failure()));
        }
        let failed = cases.iter().filter(|case| !case.differences.is_empty()).count();
        let passed = cases.len() - failed;
        text.push_str(&format!("{}: {passed} passed, {failed} failed\n", file.display()));
    }
    for (policy, Tested { coverage, .. }) in tested {
        let (reached, all) = coverage.reached_of();
        let percent = percent(reached, all);
        text.push_str(&format!(
            "coverage of {}: {percent} % ({reached} of {all})\n",
            policy.display()
        ));
        for Gap { policy, rule, never } in coverage.gaps() {
            text.push_str(&format!("  {rule} of policy `{policy}` was never {never}\n"));
        }
    }
    text
}

fn json(ran: &[Ran], tested: &BTreeMap<PathBuf, Tested>) -> Value {
    let difference = |Difference { what, expected, found }: &Difference| json!({"what": what, "expected": expected, "found": found});
    let case = |case: &Outcome| {
        json!({
            "name": case.name,
            "place": case.place,
            "passed": case.differences.is_empty(),
            "differences": case.differences.iter().map(difference).collect::<Vec<_>>(),
        })
    };
    let file = |Ran { file, cases }: &Ran| {
        json!({
            "file": file.to_string_lossy(),
            "cases": cases.iter().map(case).collect::<Vec<_>>(),
        })
    };
    let gap =
        |Gap { policy, rule, never }: Gap| json!({"policy": policy, "rule": rule, "never": never});
    let coverage = |(policy, Tested { coverage, .. }): (&PathBuf, &Tested)| {
        let (reached, all) = coverage.reached_of();
        json!({
            "file": policy.to_string_lossy(),
            "reached": reached,
            "of": all,
            "gaps": coverage.gaps().into_iter().map(gap).collect::<Vec<_>>(),
        })
    };
    json!({
        "files": ran.iter().map(file).collect::<Vec<_>>(),
        "coverage": tested.iter().map(coverage).collect::<Vec<_>>(),
    })
}

/// Replaces the control characters that XML cannot contain.
fn printable(text: &str) -> String {
    let is_held = |letter: char| !letter.is_control() || matches!(letter, '\n' | '\t');
    text.chars().map(|letter| if is_held(letter) { letter } else { '\u{fffd}' }).collect()
}

/// Formats results as JUnit XML for CI systems, with a suite for each file.
fn junit(ran: &[Ran]) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    let mut writer = Writer::new_with_indent(&mut bytes, b' ', 2);
    writer.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    writer.create_element("testsuites").write_inner_content(|writer| {
        for Ran { file, cases } in ran {
            let file = file.to_string_lossy();
            let failed = cases.iter().filter(|case| !case.differences.is_empty()).count();
            writer
                .create_element("testsuite")
                .with_attribute(("name", file.as_ref()))
                .with_attribute(("tests", cases.len().to_string().as_str()))
                .with_attribute(("failures", failed.to_string().as_str()))
                .write_inner_content(|writer| {
                    for case in cases {
                        let element = writer
                            .create_element("testcase")
                            .with_attribute(("classname", file.as_ref()))
                            .with_attribute(("name", printable(&case.name).as_str()));
                        let Some(first) = case.differences.first() else {
                            element.write_empty()?;
                            continue;
                        };
                        let Difference { what, expected, found } = first;
                        let message =
                            printable(&format!("{what}: expected {expected}, found {found}"));
                        element.write_inner_content(|writer| {
                            writer
                                .create_element("failure")
                                .with_attribute(("message", message.as_str()))
                                .write_text_content(BytesText::new(&printable(&case.failure())))?;
                            Ok(())
                        })?;
                    }
                    Ok(())
                })?;
        }
        Ok(())
    })?;
    bytes.push(b'\n');
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
