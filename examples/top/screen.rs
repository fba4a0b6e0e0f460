//! The screen: a header, the rules, the hot keys, and the keys of the keyboard.

use std::time::Instant;

use ratatui::Frame;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span as Piece, Text};
use ratatui::widgets::{Cell, Paragraph, Row as TableRow, Table};

use crate::numbers::{self, Row, bytes, duration, percent, printable, short};
use crate::snapshot::{Snapshot, Span};

/// Maximum number of reasons of `HEALTH` on the screen.
const MAX_REASONS: usize = 3;
/// Lines reserved for hot keys, as long as the rules keep half of the space.
const HOT_LINES: u16 = 8;
/// Minimum width of a rule's name; columns that leave less are omitted.
const NAME_WIDTH: u16 = 16;

/// Whether to use colours.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Paint {
    Colours,
    Plain,
}

impl Paint {
    /// No colours if `NO_COLOR` is set and not empty, see <https://no-color.org>.
    pub(crate) fn from_env() -> Paint {
        match std::env::var_os("NO_COLOR") {
            Some(value) if !value.is_empty() => Paint::Plain,
            _ => Paint::Colours,
        }
    }

    fn of(self, colour: Color) -> Style {
        match self {
            Paint::Colours => Style::new().fg(colour),
            Paint::Plain => Style::new(),
        }
    }

    /// The style of a hit rate.
    fn of_hits(self, percent: f64) -> Style {
        self.of(match percent {
            x if x >= 90.0 => Color::Green,
            x if x >= 50.0 => Color::Yellow,
            _ => Color::Red,
        })
    }
}

/// How the rules are ordered.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Order {
    Requests,
    Misses,
    Saved,
    Memory,
    Name,
}

impl Order {
    fn name(self) -> &'static str {
        match self {
            Order::Requests => "requests",
            Order::Misses => "misses",
            Order::Saved => "time saved",
            Order::Memory => "memory",
            Order::Name => "name",
        }
    }

    fn next(self) -> Order {
        match self {
            Order::Requests => Order::Misses,
            Order::Misses => Order::Saved,
            Order::Saved => Order::Memory,
            Order::Memory => Order::Name,
            Order::Name => Order::Requests,
        }
    }

    fn sort(self, rows: &mut [Row]) {
        let by = |row: &Row| {
            let traffic = row.traffic.clone().unwrap_or_default();
            match self {
                Order::Requests => traffic.per_second,
                Order::Misses => traffic.misses(),
                Order::Saved => traffic.saved_per_second,
                Order::Memory => row.memory_bytes,
                Order::Name => 0.0,
            }
        };
        rows.sort_by(|a, b| by(b).total_cmp(&by(a)).then_with(|| a.name.cmp(&b.name)));
    }
}

/// What the screen shows.
pub(crate) struct View {
    address: String,
    paint: Paint,
    /// The requested span; the snapshot may still cover another.
    span: Span,
    order: Order,
    /// Number of rules above the first one shown.
    above: usize,
    snapshot: Option<Snapshot>,
    all: Row,
    rows: Vec<Row>,
    /// Since when polls fail, and why.
    failed: Option<(Instant, String)>,
}

impl View {
    /// The view of the server at `address`.
    pub(crate) fn new(address: &str, paint: Paint) -> View {
        View {
            address: address.to_owned(),
            paint,
            span: Span::Now,
            order: Order::Requests,
            above: 0,
            snapshot: None,
            all: Row::default(),
            rows: Vec::new(),
            failed: None,
        }
    }

    /// Shows a new snapshot.
    pub(crate) fn update(&mut self, snapshot: Snapshot) {
        let before = self.snapshot.as_ref().filter(|before| before.span == Span::Now || before.span == Span::All);
        (self.all, self.rows) = numbers::rows(before, &snapshot);
        self.order.sort(&mut self.rows);
        self.snapshot = Some(snapshot);
        self.failed = None;
    }

    /// Shows that a poll failed. The last snapshot stays.
    pub(crate) fn fail(&mut self, why: String) {
        let since = self.failed.as_ref().map_or_else(Instant::now, |(since, _)| *since);
        self.failed = Some((since, why));
    }

    /// The number of lines of the hot keys, without their header.
    fn hot_lines(&self) -> u16 {
        self.snapshot.as_ref().and_then(|snapshot| snapshot.hot.as_ref().ok()).map_or(1, Vec::len) as u16
    }

    /// Selects the next span and returns it.
    pub(crate) fn next_span(&mut self) -> Span {
        self.span = self.span.next();
        self.span
    }

    /// Selects the next order of the rules.
    pub(crate) fn next_order(&mut self) {
        self.order = self.order.next();
        self.order.sort(&mut self.rows);
    }

    /// Scrolls the rules down, or up if negative.
    pub(crate) fn scroll(&mut self, by: isize) {
        self.above = self.above.saturating_add_signed(by).min(self.rows.len().saturating_sub(1));
    }
}

/// Draws the screen in any size.
pub(crate) fn draw(frame: &mut Frame<'_>, view: &mut View) {
    let Some(snapshot) = &view.snapshot else { return };
    let (width, head) = (frame.area().width, head(view, snapshot));
    let [head_area, _, rules_area, _, hot_area, foot_area] = Layout::vertical([
        Constraint::Length(head.len() as u16),
        Constraint::Length(1),
        Constraint::Length(rules_height(frame.area().height, head.len(), view)),
        Constraint::Length(1),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    let fit = fitting(view.rows.len(), rules_area.height);
    view.above = view.above.min(view.rows.len() - fit);
    frame.render_widget(Paragraph::new(Text::from(head)), head_area);
    frame.render_widget(rules(view, fit, columns(width)), rules_area);
    frame.render_widget(hot_keys(view, snapshot, hot_area), hot_area);
    let keys = Line::from(format!("q quit   w time span   s order: {}   ↑↓ scroll", view.order.name()));
    frame.render_widget(keys.style(Style::new().add_modifier(Modifier::DIM)), foot_area);
}

/// The number of lines for the rules and their header: all that they need, as long as enough is left for hot keys.
fn rules_height(height: u16, head: usize, view: &View) -> u16 {
    let room = height.saturating_sub(head as u16 + 3);
    let max = room.saturating_sub(view.hot_lines().min(HOT_LINES) + 1).max(room / 2);
    max.min(view.rows.len() as u16 + 2)
}

/// Server, time span and health.
fn head(view: &View, snapshot: &Snapshot) -> Vec<Line<'static>> {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let dot = "  ";
    let server = &snapshot.server;
    let up = duration(snapshot.whole.of("uptime_ms"));
    let mut first = vec![Piece::styled("SmartCache", bold)];
    for part in [&view.address, &server.version, &server.role, &format!("up {up}")] {
        first.extend([Piece::raw(dot), Piece::raw(printable(part.as_bytes()))]);
    }
    let over = if snapshot.span == view.span { "span: " } else { "next span: " };
    first.extend([Piece::raw(dot), Piece::raw(over), Piece::styled(view.span.name(), bold)]);
    let mut lines = vec![Line::from(first)];
    if let Some((since, why)) = &view.failed {
        let text = format!(" no answer for {:.0} s: {} ", since.elapsed().as_secs_f64(), printable(why.as_bytes()));
        let style = view.paint.of(Color::Red).add_modifier(Modifier::REVERSED);
        lines.push(Line::from(vec![Piece::styled(text, style), Piece::raw(" trying again each second")]));
        return lines;
    }
    lines.push(node(view, snapshot));
    lines.extend(health(view, snapshot));
    lines
}

/// Numbers of the node that belong to no rule.
fn node(view: &View, snapshot: &Snapshot) -> Line<'static> {
    let whole = &snapshot.whole;
    let limit = match snapshot.server.max_bytes {
        0 => String::new(),
        max => format!(" of {}", bytes(max as f64)),
    };
    let mut parts = vec![
        Piece::raw(format!("server memory {}{limit}", bytes(snapshot.server.used_bytes as f64))),
        Piece::raw(format!("  loading {}", short(whole.of("leases")))),
        Piece::raw(format!("  waiting {}", short(whole.of("waiters")))),
        Piece::raw(format!("  wait p99 {}", duration(whole.of("wait_ms_p99")))),
        Piece::raw(format!("  errors {} %", percent(whole.of("error_rate")))),
    ];
    let panics = whole.of("panics");
    if panics > 0.0 {
        let style = view.paint.of(Color::Red).add_modifier(Modifier::BOLD);
        parts.extend([Piece::raw("  "), Piece::styled(format!("panics {}", short(panics)), style)]);
    }
    Line::from(parts)
}

fn health(view: &View, snapshot: &Snapshot) -> Vec<Line<'static>> {
    let Some(health) = &snapshot.health else { return Vec::new() };
    let style = view.paint.of(if health.status == "ok" { Color::Green } else { Color::Yellow });
    let mut lines = vec![Line::from(vec![
        Piece::raw("health: "),
        Piece::styled(printable(health.status.as_bytes()), style.add_modifier(Modifier::BOLD)),
    ])];
    for (code, text) in health.reasons.iter().take(MAX_REASONS) {
        let [code, text] = [code, text].map(|text| printable(text.as_bytes()));
        lines.push(Line::from(vec![Piece::styled(format!("  {code}"), style), Piece::raw(format!("  {text}"))]));
    }
    if let Some(more @ 1..) = health.reasons.len().checked_sub(MAX_REASONS) {
        lines.push(Line::from(format!("  … {more} more: SMARTCACHE.HEALTH")));
    }
    lines
}

/// Header and width of the number columns, the least important last. Not all fit into 80 columns.
const COLUMNS: [(&str, u16); 11] = [
    ("req/s", 6),
    ("hit%", 5),
    ("cold%", 5),
    ("expir%", 6),
    ("inval%", 6),
    ("evict%", 6),
    ("busy%", 5),
    ("saved/s", 7),
    ("memory", 6),
    ("entries", 7),
    ("ratio", 5),
];

/// The number of rules that fit into `height` lines beside the header, the row of the node, and the count of hidden
/// rules.
fn fitting(rules: usize, height: u16) -> usize {
    let room = usize::from(height.saturating_sub(2));
    if rules > room { room.saturating_sub(1) } else { rules }
}

/// The number of columns that fit into `width`.
fn columns(width: u16) -> usize {
    let mut left = width.saturating_sub(NAME_WIDTH);
    let fits = |(_, width): &&(&str, u16)| match left.checked_sub(width + 1) {
        Some(rest) => {
            left = rest;
            true
        }
        None => false,
    };
    COLUMNS.iter().take_while(fits).count()
}

fn rules(view: &View, fit: usize, columns: usize) -> Table<'static> {
    let rows = &view.rows;
    let shown = rows[view.above..view.above + fit].iter().map(|row| line(row, view, columns));
    let hidden = rows.len() - fit;
    let more = (hidden > 0).then(|| TableRow::new([Cell::from(format!("… {hidden} more"))]));
    let all = line(&view.all, view, columns).style(Style::new().add_modifier(Modifier::BOLD));

    let heads = COLUMNS[..columns].iter().map(|(head, _)| Cell::from(Text::from(*head).alignment(Alignment::Right)));
    let widths = COLUMNS[..columns].iter().map(|(_, width)| Constraint::Length(*width));
    Table::new(std::iter::once(all).chain(shown).chain(more), std::iter::once(Constraint::Fill(1)).chain(widths))
        .header(TableRow::new(std::iter::once(Cell::from("RULE")).chain(heads)).style(underlined()))
        .column_spacing(1)
        .style(faded(view))
}

fn line(row: &Row, view: &View, columns: usize) -> TableRow<'static> {
    let mut cells = vec![Cell::from(printable(row.name.as_bytes()))];
    let mut right = |text: String, style: Style| {
        cells.push(Cell::from(Text::from(text).alignment(Alignment::Right)).style(style));
    };
    let plain = Style::new();
    match &row.traffic {
        None => (0..8).for_each(|_| right("-".into(), plain)),
        Some(traffic) => {
            right(short(traffic.per_second), plain);
            match traffic.shares {
                None => (0..6).for_each(|_| right("-".into(), plain)),
                Some([hit, others @ ..]) => {
                    right(percent(hit), view.paint.of_hits(hit));
                    others.into_iter().for_each(|share| right(percent(share), plain));
                }
            }
            right(duration(traffic.saved_per_second), plain);
        }
    }
    right(bytes(row.memory_bytes), plain);
    right(short(row.entries), plain);
    right(format!("{:.1}", row.ratio), plain);
    cells.truncate(columns + 1);
    TableRow::new(cells)
}

fn hot_keys(view: &View, snapshot: &Snapshot, area: Rect) -> Table<'static> {
    let widths = [Constraint::Length(6), Constraint::Length(5), Constraint::Fill(1)];
    let right = |text: String| Cell::from(Text::from(text).alignment(Alignment::Right));
    let rows: Vec<TableRow<'_>> = match &snapshot.hot {
        Err(why) => vec![TableRow::new([Cell::from(""), Cell::from(""), Cell::from(printable(why.as_bytes()))])],
        Ok(keys) => keys
            .iter()
            .take(usize::from(area.height.saturating_sub(1)))
            .map(|key| {
                let hit = if key.requests == 0 { 0.0 } else { 100.0 * key.hits as f64 / key.requests as f64 };
                TableRow::new([
                    right(percent(100.0 * key.share)),
                    right(percent(hit)).style(view.paint.of_hits(hit)),
                    Cell::from(printable(&key.name)),
                ])
            })
            .collect(),
    };
    Table::new(rows, widths)
        .header(
            TableRow::new([
                right("share%".into()),
                right("hit%".into()),
                Cell::from("HOT KEY (of all rules, in the last minutes)"),
            ])
            .style(underlined()),
        )
        .column_spacing(1)
        .style(faded(view))
}

fn underlined() -> Style {
    Style::new().add_modifier(Modifier::UNDERLINED)
}

/// Dimmed while polls fail.
fn faded(view: &View) -> Style {
    if view.failed.is_some() { Style::new().add_modifier(Modifier::DIM) } else { Style::new() }
}

/// The screen as lines of text, as tall as needed, without the help for the keyboard.
pub(crate) fn as_text(view: &mut View) -> String {
    let head = view.snapshot.as_ref().map_or(0, |snapshot| head(view, snapshot).len());
    let height = (head + view.rows.len()) as u16 + view.hot_lines().min(10) + 6;
    let text = text_of(view, 80, height);
    text.lines().take(usize::from(height) - 1).map(|line| format!("{line}\n")).collect()
}

fn text_of(view: &mut View, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("the backend is memory");
    terminal.draw(|frame| draw(frame, view)).expect("the backend is memory");
    let buffer = terminal.backend().buffer();
    let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned() + "\n";
    (0..height).map(line).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::numbers::tests::snapshot;
    use crate::snapshot::{Health, HotKey};

    /// A view after two snapshots with this number of rules; the first has the most requests.
    fn view(rules: usize) -> View {
        let mut view = View::new("cache-3:6379", Paint::Plain);
        let names: Vec<String> = (0..rules).map(|at| format!("rule-{at:03}")).collect();
        for nth in [1_u64, 2] {
            let fields: Vec<_> = names
                .iter()
                .enumerate()
                .map(|(at, name)| {
                    let n = nth * (1_000 - at as u64);
                    (&name[..], json!({"requests": n, "hits": n, "stored_bytes": at}))
                })
                .collect();
            let mut snapshot = snapshot(Span::Now, nth * 1_000, &fields);
            snapshot.hot = Ok((0..20)
                .map(|at| HotKey { name: format!("k{at}\u{1b}[2J").into_bytes(), requests: 4, hits: 3, share: 0.05 })
                .collect());
            view.update(snapshot);
        }
        view
    }

    #[test]
    fn it_draws_in_any_size() {
        let mut view = view(40);
        view.fail("Connection refused".into());
        for (width, height) in (1..30).flat_map(|n| [(n, 24), (80, n), (n * 10, n), (n, n)]) {
            text_of(&mut view, width, height);
        }
    }

    #[test]
    fn rules_that_do_not_fit_are_counted_and_can_be_scrolled_to() {
        let mut view = view(40);
        let shown = |view: &mut View| {
            let text = text_of(view, 80, 24);
            text.lines().filter(|line| line.starts_with("rule-")).map(|line| line[..8].to_owned()).collect::<Vec<_>>()
        };
        let first = shown(&mut view);
        assert_eq!(first[0], "rule-000");
        let text = text_of(&mut view, 80, 24);
        assert!(text.contains(&format!("… {} more", 40 - first.len())), "{text}");
        assert!(text.matches("75.0 k").count() >= usize::from(HOT_LINES), "{text}");
        view.scroll(3);
        assert_eq!(shown(&mut view)[0], "rule-003");
        view.scroll(1_000);
        assert_eq!(shown(&mut view).last().unwrap(), "rule-039");
        view.scroll(-1);
        assert_eq!(shown(&mut view).last().unwrap(), "rule-038");
        view.scroll(-1_000);
        assert_eq!(shown(&mut view), first);
    }

    #[test]
    fn rules_are_sorted_by_the_selected_order() {
        let mut view = view(3);
        let first = |view: &View| view.rows[0].name.clone();
        assert_eq!(first(&view), "rule-000");
        while view.order != Order::Memory {
            view.next_order();
        }
        assert_eq!(first(&view), "rule-002");
        assert!(text_of(&mut view, 80, 24).contains("order: memory"));
    }

    #[test]
    fn the_header_shows_the_reasons_of_health() {
        let mut view = view(2);
        assert!(!text_of(&mut view, 80, 24).contains("health"), "a server without the command");
        let mut next = snapshot(Span::Now, 3_000, &[]);
        let reasons = (1..=5).map(|n| (format!("code-{n}"), format!("what {n} is")));
        next.health = Some(Health { status: "warn".into(), reasons: reasons.collect() });
        view.update(next);
        let text = text_of(&mut view, 80, 24);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[2..4], ["health: warn", "  code-1  what 1 is"]);
        assert_eq!(lines[6], "  … 2 more: SMARTCACHE.HEALTH");
    }

    #[test]
    fn when_polls_fail_the_error_is_shown_and_the_last_numbers_stay() {
        let mut view = view(2);
        view.fail("cache-3:6379: Connection refused".into());
        let text = text_of(&mut view, 120, 24);
        assert!(text.contains("no answer for 0 s: cache-3:6379: Connection refused  trying again"), "{text}");
        assert!(text.contains("rule-001"), "{text}");
        view.update(snapshot(Span::Now, 10, &[]));
        assert!(!text_of(&mut view, 120, 24).contains("no answer"));
    }

    #[test]
    fn a_new_span_is_announced_until_its_numbers_arrive() {
        let mut view = view(1);
        assert_eq!(view.next_span(), Span::Minute);
        assert!(text_of(&mut view, 100, 24).contains("next span: last minute"));
        view.update(snapshot(Span::Minute, 3_000, &[("r", json!({"requests": 60, "requests_per_sec": 1.5}))]));
        let text = text_of(&mut view, 100, 24);
        assert!(text.contains("  span: last minute") && text.contains(" 1.5 "), "{text}");
        view.update(snapshot(Span::Now, 4_000, &[("r", json!({"requests": 999}))]));
        assert!(view.all.traffic.is_none(), "the numbers of a window are no base for rates");
    }

    #[test]
    fn only_columns_that_fit_are_shown() {
        let heads = |width| {
            let text = text_of(&mut view(1), width, 24);
            let head = text.lines().find(|line| line.starts_with("RULE")).unwrap().to_owned();
            (head.split_whitespace().count() - 1, head.split_whitespace().last().unwrap().to_owned())
        };
        assert_eq!(heads(80), (9, "memory".into()));
        assert_eq!(heads(120), (COLUMNS.len(), "ratio".into()));
        assert_eq!(heads(40), (3, "cold%".into()));
        assert_eq!(heads(10), (0, "RULE".into()));
    }
}
