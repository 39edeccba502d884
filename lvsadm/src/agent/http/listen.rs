//! Where the endpoint listens.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use anyhow::{Context, Result, bail};

use super::answer::Answers;
use super::serve;
use super::token::Token;
use crate::grammar::subcommands::ListenArgs;

/// Sockets that listen, and what they answer with.
#[derive(Debug)]
pub struct Endpoint {
    listeners: Vec<TcpListener>,
    token: Option<Arc<Token>>,
}

impl Endpoint {
    /// Opens the sockets that are asked for, of which there may be none.
    pub fn open(arguments: &ListenArgs) -> Result<Self> {
        if let Some(address) = arguments.unguarded() {
            bail!(
                "{address} is no loopback address: name the token that requests must bear by --token-file, or let everybody read \
                 by --no-token"
            );
        }
        let token = arguments.token_file.as_deref().map(Token::read).transpose()?.map(Arc::new);
        let open = |address: &SocketAddr| -> Result<TcpListener> {
            let listen = || {
                let listener = TcpListener::bind(address)?;
                listener.set_nonblocking(true)?;
                Ok::<_, std::io::Error>(listener)
            };
            listen().with_context(|| format!("cannot listen on {address}"))
        };
        Ok(Endpoint { listeners: arguments.listen.iter().map(open).collect::<Result<_>>()?, token })
    }

    /// Answers requests for as long as the runtime runs.
    pub fn serve(self) -> Result<()> {
        let answers = Arc::new(Answers::new(self.token));
        if !self.listeners.is_empty() {
            tokio::spawn(answers.clone().forget());
        }
        let places = serve::places();
        for listener in self.listeners {
            let local = listener.local_addr().context("cannot listen")?.ip().to_canonical().is_loopback();
            let listener = tokio::net::TcpListener::from_std(listener).context("cannot listen")?;
            tokio::spawn(serve::serve(listener, places.clone(), answers.clone(), local));
        }
        Ok(())
    }
}
