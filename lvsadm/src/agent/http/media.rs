//! Which format of metrics a client takes, by its `Accept` header (RFC 9110, 12.5.1).

use crate::render::Format;

/// The format that a header asks for; Prometheus's, where it asks for nothing that there is.
pub fn format(accept: Option<&str>) -> Format {
    let accept = accept.unwrap_or_default();
    let open = accept.split(',').filter_map(|range| weight(range, is_openmetrics)).fold(0.0, f64::max);
    let plain = accept.split(',').filter_map(|range| weight(range, is_plain)).fold(0.0, f64::max);
    if open > 0.0 && open >= plain { Format::OpenMetrics } else { Format::Prometheus }
}

fn is_openmetrics(kind: &str, version: Option<&str>) -> bool {
    kind == "application/openmetrics-text" && matches!(version, None | Some("1.0.0" | "0.0.1"))
}

fn is_plain(kind: &str, version: Option<&str>) -> bool {
    matches!(kind, "text/plain" | "text/*") && matches!(version, None | Some("0.0.4"))
}

/// The weight of a media range, if it is one that is wanted.
fn weight(range: &str, wanted: fn(&str, Option<&str>) -> bool) -> Option<f64> {
    let mut parts = range.split(';').map(str::trim);
    let kind = parts.next()?.to_ascii_lowercase();
    let (mut version, mut weight) = (None, 1.0);
    for (name, value) in parts.filter_map(|parameter| parameter.split_once('=')) {
        match name.to_ascii_lowercase().as_str() {
            "version" => version = Some(value.trim_matches('"')),
            "q" => weight = value.parse().unwrap_or(0.0),
            _ => {}
        }
    }
    wanted(&kind, version).then_some(weight)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_chooses() {
        for accept in [
            // Prometheus's own.
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            "application/openmetrics-text",
            "text/plain;q=0.5, Application/OpenMetrics-Text; version=\"1.0.0\"; charset=utf-8",
        ] {
            assert_eq!(format(Some(accept)), Format::OpenMetrics, "{accept}");
        }
        for accept in [
            "",
            "*/*",
            "text/html,*/*;q=0.8",
            "text/plain;version=0.0.4,application/openmetrics-text;q=0.9",
            "application/openmetrics-text;version=2.0.0",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;q=x",
            ";;,,=",
        ] {
            assert_eq!(format(Some(accept)), Format::Prometheus, "{accept}");
        }
        assert_eq!(format(None), Format::Prometheus);
    }
}
