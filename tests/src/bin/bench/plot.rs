//! Drawings of what grows, as SVG.

use std::fs;
use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use crate::growth::Growth;

/// Width and height, in points.
const SIZE: (u32, u32) = (720, 400);

/// Draws each into a file of the folder: `flows.svg` and the like.
pub fn draw(growths: &[Growth], folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    for growth in growths {
        let name = growth.over.split(' ').next().unwrap_or(growth.over);
        let file = folder.join(format!("{name}.svg"));
        one(growth, &file).map_err(|error| anyhow!("cannot draw {}: {error}", file.display()))?;
        println!("drawn: {}", file.display());
    }
    Ok(())
}

/// Lines of ns over what grows, which is on a logarithmic scale.
fn one(growth: &Growth, file: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let most = growth.series.iter().flat_map(|(_, values)| values).copied().fold(0.0, f64::max);
    let (first, last) = (growth.at.first().copied().unwrap_or(1.0), growth.at.last().copied().unwrap_or(1.0));
    let area = SVGBackend::new(file, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(48)
        .build_cartesian_2d((first..last).log_scale(), 0.0..most * 1.1)?;
    chart.configure_mesh().x_desc(growth.over).y_desc("ns a packet").light_line_style(WHITE).draw()?;
    for (number, (name, values)) in growth.series.iter().enumerate() {
        let color = Palette99::pick(number).to_rgba();
        let points: Vec<_> = growth.at.iter().copied().zip(values.iter().copied()).collect();
        chart
            .draw_series(LineSeries::new(points, color.stroke_width(2)).point_size(3))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .border_style(BLACK)
        .background_style(WHITE)
        .draw()?;
    area.present()?;
    Ok(())
}
