//! The measurements as a table, as JSON, and as plots.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use hdrhistogram::Histogram;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;
use serde_json::{Value, json};

use crate::costs::Point;
use crate::load::{Measured, histogram};
use crate::setups::{Cpu, SETUPS, Setup};
use crate::sidecar::Sidecar;
use crate::tokens::Error;

/// One turn of one set-up.
#[derive(Debug)]
pub struct Round {
    pub setup: Setup,
    pub connections: usize,
    pub measured: Measured,
    pub cpu: Cpu,
}

impl Round {
    #[expect(clippy::cast_precision_loss, reason = "counts of a benchmark")]
    fn figure(&self, figure: Figure) -> f64 {
        let requests = self.measured.requests.max(1) as f64;
        let latency = |quantile| self.measured.latency.value_at_quantile(quantile) as f64 / 1e3;
        match figure {
            Figure::PerSecond => requests / self.measured.took.as_secs_f64(),
            Figure::P50 => latency(0.5),
            Figure::P99 => latency(0.99),
            Figure::Envoy => self.cpu.envoy as f64 / requests / 1e3,
            Figure::Processor => self.cpu.processor as f64 / requests / 1e3,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Figure {
    PerSecond,
    /// Microseconds, as all that follow.
    P50,
    P99,
    Envoy,
    Processor,
}

const FIGURES: [(Figure, &str); 5] = [
    (Figure::PerSecond, "requests/s"),
    (Figure::P50, "p50 µs"),
    (Figure::P99, "p99 µs"),
    (Figure::Envoy, "Envoy CPU µs"),
    (Figure::Processor, "processor CPU µs"),
];

#[derive(Debug, Default)]
pub struct Report {
    rounds: Vec<Round>,
    /// Bytes of memory before all rounds, and after.
    pub resident: Vec<(Setup, u64, u64)>,
    pub sidecar: Sidecar,
    /// The costs of decisions without Envoy.
    pub by_rules: Vec<Point>,
    pub by_rules_for_any: Vec<Point>,
    pub by_claims_unread: Vec<Point>,
    pub by_claims_read: Vec<Point>,
    pub by_bytes_unread: Vec<Point>,
    pub by_bytes_read: Vec<Point>,
}

/// The middle of some numbers, with the least and the greatest.
struct Spread {
    least: f64,
    median: f64,
    greatest: f64,
}

impl Spread {
    fn of(mut numbers: Vec<f64>) -> Option<Self> {
        numbers.sort_by(f64::total_cmp);
        let (least, greatest) = (*numbers.first()?, *numbers.last()?);
        Some(Self { least, median: *numbers.get(numbers.len() / 2)?, greatest })
    }

    fn json(&self) -> Value {
        json!({"median": self.median, "min": self.least, "max": self.greatest})
    }
}

impl Report {
    pub fn add(&mut self, round: Round) {
        self.rounds.push(round);
    }

    fn connections(&self) -> Vec<usize> {
        let mut all: Vec<usize> = self.rounds.iter().map(|round| round.connections).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    fn rounds(&self, setup: Setup, connections: usize) -> impl Iterator<Item = &Round> {
        self.rounds
            .iter()
            .filter(move |round| round.setup == setup && round.connections == connections)
    }

    fn requests(&self, setup: Setup) -> u64 {
        let rounds = self.rounds.iter().filter(|round| round.setup == setup);
        rounds.map(|round| round.measured.requests).sum()
    }

    fn spread(&self, setup: Setup, connections: usize, figure: Figure) -> Option<Spread> {
        Spread::of(self.rounds(setup, connections).map(|round| round.figure(figure)).collect())
    }

    /// Returns the ratios of one set-up to another, round by round. Rounds of the same number ran
    /// under the same conditions of the machine.
    fn ratio(&self, setup: Setup, to: Setup, connections: usize, figure: Figure) -> Option<Spread> {
        let pairs = self.rounds(setup, connections).zip(self.rounds(to, connections));
        Spread::of(
            pairs.map(|(ours, theirs)| ours.figure(figure) / theirs.figure(figure)).collect(),
        )
    }

    /// For people.
    pub fn table(&self) -> String {
        let mut text = String::new();
        // Writing to a `String` cannot fail.
        for connections in self.connections() {
            let _written = write!(text, "\n{connections} connection(s); medians\n\n| set-up |");
            FIGURES.iter().for_each(|(_, name)| {
                let _written = write!(text, " {name} |");
            });
            let _written = writeln!(text, "\n|---|{}", "---|".repeat(FIGURES.len()));
            for setup in SETUPS {
                if self.rounds(setup, connections).next().is_none() {
                    continue;
                }
                let _written = write!(text, "| {} |", setup.name());
                for (figure, _) in FIGURES {
                    let spread = self.spread(setup, connections, figure);
                    let _written = match spread.filter(|spread| spread.median > 0.0) {
                        Some(spread) => {
                            write!(text, " {:.*} |", digits(spread.median), spread.median)
                        }
                        None => write!(text, " – |"),
                    };
                }
                text.push('\n');
            }
            for (setup, floor) in
                SETUPS.into_iter().filter_map(|setup| Some((setup, setup.floor()?)))
            {
                for floor in [floor, Setup::OwnFilters] {
                    let _written = write!(text, "| {} / {} |", setup.name(), floor.name());
                    for (figure, _) in FIGURES {
                        let ratio = self.ratio(setup, floor, connections, figure);
                        let _written = match ratio.filter(|ratio| ratio.median.is_finite()) {
                            Some(Spread { least, median, greatest }) => {
                                write!(text, " **{median:.2}** ({least:.2}–{greatest:.2}) |")
                            }
                            None => write!(text, " – |"),
                        };
                    }
                    text.push('\n');
                }
            }
        }
        text.push('\n');
        for (setup, idle, loaded) in &self.resident {
            let (name, requests) = (setup.name(), self.requests(*setup));
            let _written = writeln!(
                text,
                "resident, {name}: {} KiB, after {requests} requests {} KiB",
                idle >> 10,
                loaded >> 10
            );
        }
        let Sidecar { start, streams } = &self.sidecar;
        text.push('\n');
        if let Some(Spread { least, median, greatest }) = Spread::of(start.clone()) {
            let _written =
                writeln!(text, "start to ready: {median:.1} ms ({least:.1}–{greatest:.1})");
        }
        for (streams, bytes) in streams {
            let _written =
                writeln!(text, "resident with {streams} open streams: {} KiB", bytes >> 10);
        }
        for (name, points) in self.costs() {
            let _written = writeln!(text, "\n{name}:");
            for (size, nanoseconds) in points {
                let _written = writeln!(text, "  {size:>8}: {:.2} µs", nanoseconds / 1e3);
            }
        }
        text
    }

    fn costs(&self) -> [(&'static str, &[Point]); 6] {
        [
            ("a decision by number of rules, without Envoy", &self.by_rules),
            ("a decision by number of rules that are for any tool", &self.by_rules_for_any),
            ("a decision by number of claims that no rule reads", &self.by_claims_unread),
            ("a decision by number of claims, of which a rule reads one", &self.by_claims_read),
            ("a decision by bytes of a body that no condition reads", &self.by_bytes_unread),
            ("a decision by bytes of a body that a condition reads", &self.by_bytes_read),
        ]
    }

    fn json(&self) -> Value {
        let mut turns = Vec::new();
        for connections in self.connections() {
            for setup in SETUPS {
                let mut turn = json!({"setup": setup.name(), "connections": connections});
                for (figure, name) in FIGURES {
                    if let Some(spread) = self.spread(setup, connections, figure) {
                        turn[name] = spread.json();
                    }
                    let ratio = setup
                        .floor()
                        .and_then(|floor| self.ratio(setup, floor, connections, figure));
                    if let Some(ratio) = ratio {
                        turn["over the no-op"][name] = ratio.json();
                    }
                }
                turns.push(turn);
            }
        }
        let resident = self.resident.iter().map(|(setup, idle, loaded)| {
            let requests = self.requests(*setup);
            let figures = json!({"idle": idle, "loaded": loaded, "requests": requests});
            (setup.name().to_owned(), figures)
        });
        let Sidecar { start, streams } = &self.sidecar;
        let costs = self.costs().map(|(name, points)| (name.to_owned(), json!(points)));
        json!({
            "turns": turns,
            "residentBytes": Value::Object(resident.collect()),
            "startMilliseconds": Spread::of(start.clone()).map(|spread| spread.json()),
            "residentBytesByStreams": streams,
            "nanoseconds": Value::Object(costs.into_iter().collect()),
        })
    }

    /// Writes all of it to a directory.
    pub fn write(&self, dir: &Path) -> Result<(), Error> {
        fs::create_dir_all(dir)?;
        fs::write(dir.join("envoy.json"), serde_json::to_string_pretty(&self.json())?)?;
        for connections in self.connections() {
            let path = dir.join(format!("latency-{connections}.svg"));
            self.plot_latency(connections, &path)?;
        }
        plot_costs(
            &dir.join("rules.svg"),
            "A decision by number of rules",
            "rules",
            &[
                ("rules that name another tool", &self.by_rules),
                ("rules that are for any tool", &self.by_rules_for_any),
            ],
        )?;
        plot_costs(
            &dir.join("claims.svg"),
            "A decision by number of claims",
            "claims",
            &[
                ("claims that no rule reads", &self.by_claims_unread),
                ("claims of which a rule reads one", &self.by_claims_read),
            ],
        )?;
        plot_costs(
            &dir.join("bytes.svg"),
            "A decision by size of the body",
            "bytes",
            &[
                ("arguments that no condition reads", &self.by_bytes_unread),
                ("arguments that a condition looks into", &self.by_bytes_read),
            ],
        )
    }

    /// The latency at each percentile.
    #[expect(clippy::cast_precision_loss, reason = "microseconds on a plot")]
    fn plot_latency(&self, connections: usize, path: &Path) -> Result<(), Error> {
        const PERCENTILES: [f64; 12] =
            [1.0, 5.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 97.0, 98.0, 99.0, 99.5];
        let mut lines = Vec::new();
        for setup in SETUPS {
            let mut all: Histogram<u64> = histogram();
            for round in self.rounds(setup, connections) {
                all.add(&round.measured.latency)?;
            }
            if !all.is_empty() {
                let at =
                    |percentile| (percentile, all.value_at_percentile(percentile) as f64 / 1e3);
                lines.push((setup.name(), PERCENTILES.map(at).to_vec()));
            }
        }
        let top =
            lines.iter().flat_map(|(_, points)| points).map(|point| point.1).fold(1.0, f64::max);
        let title = format!("Latency through Envoy, {connections} connection(s), µs by percentile");
        plot(path, &title, "percentile", "µs", 0.0..100.0, 0.0..top * 1.05, &lines)
    }
}

fn digits(number: f64) -> usize {
    if number < 100.0 { 1 } else { 0 }
}

#[expect(clippy::cast_precision_loss, reason = "sizes on a plot")]
fn plot_costs(
    path: &Path,
    title: &str,
    x: &str,
    lines: &[(&'static str, &[Point])],
) -> Result<(), Error> {
    let points = |points: &[Point]| {
        points
            .iter()
            .map(|(size, nanoseconds)| (*size as f64, nanoseconds / 1e3))
            .collect::<Vec<_>>()
    };
    let lines: Vec<(&str, Vec<(f64, f64)>)> =
        lines.iter().map(|(name, line)| (*name, points(line))).collect();
    let all = || lines.iter().flat_map(|(_, points)| points);
    let range = |of: fn(&(f64, f64)) -> f64| {
        let (least, most) =
            all().map(of).fold((f64::MAX, 0.0), |(least, most): (f64, f64), number| {
                (least.min(number), most.max(number))
            });
        (least / 1.3, most * 1.3)
    };
    if all().next().is_none() {
        return Ok(());
    }
    let ((left, right), (bottom, top)) = (range(|point| point.0), range(|point| point.1));
    let (across, up) = ((left..right).log_scale(), (bottom..top).log_scale());
    plot(path, title, x, "µs", across, up, &lines)
}

fn plot<X, Y>(
    path: &Path,
    title: &str,
    x: &str,
    y: &str,
    across: X,
    up: Y,
    lines: &[(&str, Vec<(f64, f64)>)],
) -> Result<(), Error>
where
    X: AsRangedCoord<Value = f64>,
    Y: AsRangedCoord<Value = f64>,
    X::CoordDescType: ValueFormatter<f64>,
    Y::CoordDescType: ValueFormatter<f64>,
{
    let area = SVGBackend::new(path, (860, 480)).into_drawing_area();
    area.fill(&WHITE).map_err(text)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(64)
        .build_cartesian_2d(across, up)
        .map_err(text)?;
    chart.configure_mesh().x_desc(x).y_desc(y).draw().map_err(text)?;
    for (number, (name, points)) in lines.iter().enumerate() {
        let style = Palette99::pick(number).stroke_width(2);
        let drawn =
            chart.draw_series(LineSeries::new(points.iter().copied(), style)).map_err(text)?;
        drawn.label(*name).legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 16, y)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK)
        .draw()
        .map_err(text)?;
    area.present().map_err(text)
}

fn text(error: impl std::fmt::Display) -> Error {
    error.to_string().into()
}
