//! `-L -c`

use std::fmt::Write;

use super::label::Labels;
use lvs_director::rules::{Connection, Protocol};

/// A listing of connections.
pub struct Connections<'a> {
    /// How names are written.
    pub labels: Labels<'a>,
    /// Whether persistence engines are shown.
    pub engines: bool,
}

impl Connections<'_> {
    /// Its first lines.
    pub fn titles(&self) -> String {
        let engines = if self.engines { "        pe name          pe_data" } else { "" };
        format!(
            "IPVS connection entries\n\
             pro expire state       source             virtual            destination{engines}\n"
        )
    }

    /// Appends a row. Nothing is cut, so long addresses push the columns after them.
    pub fn row(&mut self, text: &mut String, row: &Connection) {
        let mut label = |endpoint: (_, _)| self.labels.endpoint(endpoint.0, endpoint.1, row.protocol);
        let (client, virt, real) = (label(row.client), label(row.virt), label(row.real));
        let protocol = row.protocol.map_or("IP", Protocol::title);
        let expires = format!("{:02}:{:02}", row.expires / 60, row.expires % 60);
        let _ = write!(text, "{protocol:<3} {expires:<6} {:<11} {client:<18} {virt:<18} ", row.state);
        let _ = match &row.engine {
            Some((engine, data)) if self.engines => writeln!(text, "{real:<16} {:<18} {data}", engine.name()),
            _ => writeln!(text, "{real}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grammar::Dialect;
    use crate::names::SystemNames;
    use lvs_director::rules::PersistenceEngine;

    #[test]
    fn rows_are_ipvsadms() {
        let mut names = SystemNames::default();
        let labels = Labels::new(Dialect::Literal, &mut names, true);
        let mut listing = Connections { labels, engines: true };
        let mut connection = Connection {
            protocol: Some(Protocol::Tcp),
            expires: 899,
            state: "ESTABLISHED",
            client: ([10, 1, 0, 100].into(), 40000),
            virt: ([192, 0, 2, 10].into(), 80),
            real: ([10, 2, 0, 11].into(), 80),
            engine: None,
            local: None,
        };
        let mut text = String::new();
        listing.row(&mut text, &connection);
        connection.engine = Some((PersistenceEngine::Sip, "1@x".to_owned()));
        connection.protocol = None;
        connection.expires = 6001;
        listing.row(&mut text, &connection);
        assert_eq!(
            text,
            "TCP 14:59  ESTABLISHED 10.1.0.100:40000   192.0.2.10:80      10.2.0.11:80\n\
             IP  100:01 ESTABLISHED 10.1.0.100:40000   192.0.2.10:80      10.2.0.11:80     sip                1@x\n"
        );
    }
}
