//! The options of `lvsadm top`.

use std::time::Duration;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};

/// A page of `lvsadm top`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Page {
    /// All services.
    #[default]
    Services,
    /// One of them, with its real servers.
    Service,
    /// How packets left the data plane.
    Exits,
    /// Floods, and how full the tables are.
    Floods,
}

impl Page {
    /// All of them.
    pub const ALL: [Page; 4] = [Page::Services, Page::Service, Page::Exits, Page::Floods];

    /// Its word.
    pub const fn name(self) -> &'static str {
        match self {
            Page::Services => "services",
            Page::Service => "service",
            Page::Exits => "exits",
            Page::Floods => "floods",
        }
    }

    /// The page of a word.
    pub fn by_name(name: &str) -> Option<Self> {
        Page::ALL.into_iter().find(|page| page.name() == name)
    }

    /// The page of a digit.
    pub fn of_key(digit: char) -> Option<Self> {
        let place = digit.to_digit(10)?.checked_sub(1)?;
        Page::ALL.get(place as usize).copied()
    }

    /// The one after it, and the first after the last.
    pub fn next(self) -> Self {
        Page::ALL[(self as usize + 1) % Page::ALL.len()]
    }
}

/// What services are ordered by. All but the first begin with the greatest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// As listings have them.
    #[default]
    Service,
    /// New connections in a second.
    Connections,
    /// Packets in a second, both ways.
    Packets,
    /// Bytes in a second, both ways.
    Bytes,
    /// Active connections.
    Active,
    /// Inactive connections.
    Inactive,
}

impl Order {
    /// All of them.
    pub const ALL: [Order; 6] =
        [Order::Service, Order::Connections, Order::Packets, Order::Bytes, Order::Active, Order::Inactive];

    /// Its word.
    pub const fn name(self) -> &'static str {
        match self {
            Order::Service => "service",
            Order::Connections => "connections",
            Order::Packets => "packets",
            Order::Bytes => "bytes",
            Order::Active => "active",
            Order::Inactive => "inactive",
        }
    }

    /// The order of a word.
    pub fn by_name(name: &str) -> Option<Self> {
        Order::ALL.into_iter().find(|order| order.name() == name)
    }

    /// The one after it, and the first after the last.
    pub fn next(self) -> Self {
        Order::ALL[(self as usize + 1) % Order::ALL.len()]
    }
}

/// What is shown, and how often.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct TopArgs {
    /// Print one page as text, with rates of one interval, and end
    #[arg(long)]
    pub once: bool,
    /// The page that is shown first
    #[arg(long, default_value = "services", value_parser = page())]
    pub page: Page,
    /// What services are ordered by
    #[arg(long, default_value = "service", value_parser = order())]
    pub sort: Order,
    /// Show only services that have this in their name or in that of a real server
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
    pub filter: String,
    /// Seconds from one look to the next
    #[arg(long, default_value_t = 2, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub interval: u32,
}

impl TopArgs {
    /// The time from one look to the next.
    pub fn pause(&self) -> Duration {
        Duration::from_secs(self.interval.into())
    }
}

fn page() -> impl TypedValueParser<Value = Page> {
    // One service is chosen on the page of all.
    let pages = Page::ALL.into_iter().filter(|page| *page != Page::Service).map(Page::name);
    PossibleValuesParser::new(pages).try_map(|word| Page::by_name(&word).ok_or("there is no such page"))
}

fn order() -> impl TypedValueParser<Value = Order> {
    PossibleValuesParser::new(Order::ALL.map(Order::name))
        .try_map(|word| Order::by_name(&word).ok_or("there is no such order"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_have_names_and_go_round() {
        assert_eq!(Order::Inactive.next(), Order::Service);
        assert!(Order::ALL.into_iter().all(|order| Order::by_name(order.name()) == Some(order)));
    }
}
