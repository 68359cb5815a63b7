//! Plots, as SVG.

use crate::Failure;
use plotters::prelude::*;
use std::path::Path;

/// A series of bars: a name, and a value for each group; `None` where nothing was measured.
pub type Series = (String, Vec<Option<f64>>);

const SIZE: (u32, u32) = (960, 420);
const LEGEND_WIDTH: u32 = 130;

/// Bars in groups, on a logarithmic scale: a peer is often a hundredth of another.
pub fn bars(
    path: &Path,
    title: &str,
    unit: &str,
    groups: &[String],
    series: &[Series],
) -> Result<(), Failure> {
    let values = || series.iter().flat_map(|(_, values)| values.iter().flatten().copied());
    let highest = values().fold(1.0, f64::max) * 2.0;
    let lowest = 10f64.powf(values().fold(highest, f64::min).max(0.1).log10().floor());
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let (left, right) = area.split_horizontally(SIZE.0 - LEGEND_WIDTH);
    let mut chart = ChartBuilder::on(&left)
        .caption(title, ("sans-serif", 18))
        .margin(10)
        .x_label_area_size(30)
        .y_label_area_size(80)
        .build_cartesian_2d(0.0..groups.len() as f64, (lowest..highest).log_scale())?;
    let name = |x: &f64| match x.fract() {
        fract if (fract - 0.5).abs() < 0.01 => {
            groups.get(x.floor() as usize).cloned().unwrap_or_default()
        }
        _ => String::new(),
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(2 * groups.len() + 1)
        .x_label_formatter(&name)
        .y_desc(unit)
        .y_label_formatter(&|y| short(*y))
        .draw()?;
    let width = 0.8 / series.len() as f64;
    for (i, (name, values)) in series.iter().enumerate() {
        let color = Palette99::pick(i).to_rgba();
        let bar = |(group, value): (usize, &Option<f64>)| {
            let left = group as f64 + 0.1 + i as f64 * width;
            let corners = [(left, lowest), (left + width * 0.9, (*value)?)];
            Some(Rectangle::new(corners, color.filled()))
        };
        chart.draw_series(values.iter().enumerate().filter_map(bar))?;
        let y = 45 + 18 * i as i32;
        right.draw(&Rectangle::new([(0, y), (10, y + 10)], color.filled()))?;
        right.draw(&Text::new(name.clone(), (16, y), ("sans-serif", 13)))?;
    }
    area.present()?;
    Ok(())
}

/// A number that fits beside an axis.
fn short(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{} M", v / 1e6),
        v if v >= 1e3 => format!("{} k", v / 1e3),
        v => format!("{v}"),
    }
}
