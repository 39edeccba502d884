//! What a request for services asks for.

use crate::grammar::subcommands::Order;

/// Which services, in which order, and how many at most.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// What a service or one of its real servers has in its name.
    pub filter: String,
    /// What they are ordered by.
    pub order: Order,
    /// Most that are listed.
    pub limit: Option<usize>,
}

impl Query {
    /// Reads `filter=…&sort=…&limit=…`; the error is a sentence.
    pub fn read(text: &str) -> Result<Self, String> {
        let mut query = Query::default();
        for (name, value) in form_urlencoded::parse(text.as_bytes()) {
            match &*name {
                "filter" => query.filter = value.into_owned(),
                "sort" => {
                    let words = || Order::ALL.map(Order::name).join(", ");
                    query.order = Order::by_name(&value).ok_or_else(|| format!("sort is one of {}", words()))?;
                }
                "limit" => {
                    query.limit = Some(value.parse().map_err(|_| "limit is a number".to_owned())?);
                }
                _ => return Err("the parameters are filter, sort and limit".to_owned()),
            }
        }
        Ok(query)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read() {
        let read = Query::read("filter=tcp%2010.0.0.1%3A80+x&sort=bytes&limit=100").unwrap();
        let filter = "tcp 10.0.0.1:80 x".to_owned();
        assert_eq!(read, Query { filter, order: Order::Bytes, limit: Some(100) });
        assert_eq!(Query::read(""), Ok(Query::default()));
        assert!(Query::read("sort=name").unwrap_err().starts_with("sort is one of service, connections, "));
        assert_eq!(Query::read("limit=-1").unwrap_err(), "limit is a number");
        assert_eq!(Query::read("order=bytes").unwrap_err(), "the parameters are filter, sort and limit");
    }
}
