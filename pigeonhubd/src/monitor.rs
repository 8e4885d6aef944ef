//! The pages for monitoring, and the port that has nothing else.

use std::net::SocketAddr;
use std::sync::Arc;

use hyper::header::{ACCEPT, CACHE_CONTROL, HeaderMap, HeaderValue};
use hyper::{Response, StatusCode};
use pigeonhub_proto::config::{Config, MetricsListen};
use pigeonhub_proto::control::{Answer, Command};
use pigeonhub_proto::exposition::{self, CLASSIC, OPENMETRICS};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::edge::AskError;
use crate::http::{Body, Pages, Site, content, text};
use crate::listener::{self, ListenError, Live};

/// The configured address for metrics cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("metrics.listen = \"{address}\": {why}; name another address, \"auto\" or \"off\"")]
pub struct MonitorError {
    address: SocketAddr,
    why: String,
}

/// Listens where the configuration says. A port that nobody asked for and that
/// somebody else has is done without.
///
/// # Errors
/// If an address that was asked for cannot be had.
pub fn bind(config: &Config) -> Result<Vec<TcpListener>, MonitorError> {
    let Some(address) = config.metrics.listen.address(config.listen.port) else { return Ok(Vec::new()) };
    let error = match listener::bind(&[address.ip()], address.port()) {
        Ok(listeners) => {
            tracing::info!("metrics at http://{address}/metrics");
            return Ok(listeners);
        }
        Err(ListenError::Taken { holder, .. }) => holder.to_string(),
        Err(ListenError::NotAllowed { .. }) => String::from("that port is not allowed to this user"),
        Err(ListenError::Other { error, .. }) => error.to_string(),
        Err(error) => error.to_string(),
    };
    if config.metrics.listen == MetricsListen::Auto {
        tracing::warn!("no metrics over HTTP on {address}: {error}; see metrics.listen");
        return Ok(Vec::new());
    }
    Err(MonitorError { address, why: error })
}

/// Answers for ever. Dropping this future ends it.
pub async fn serve(listeners: Vec<TcpListener>, site: Site) {
    let site = Arc::new(Site { pages: Pages::Monitoring, ..site });
    // The listener's spare connections are more than monitoring needs.
    let (_live, live) = watch::channel(Live { site, max_connections: 0 });
    let (_run, running) = watch::channel(false);
    listener::serve(listeners, live, running).await;
}

/// `/metrics`: OpenMetrics for those who accept it by name, as Prometheus does,
/// and its own older format for anyone else.
pub(crate) async fn metrics(headers: &HeaderMap, site: &Site) -> Response<Body> {
    if site.pages == Pages::Public {
        let told = "the metrics of this hub are not here: see metrics.listen and metrics.public in its \
                    configuration, or ask `pigeonctl metrics`\n";
        return text(StatusCode::NOT_FOUND, told);
    }
    fresh(match site.edge.ask(Command::Metrics).await {
        Ok(Answer::Metrics(figures)) if accepts_openmetrics(headers) => {
            content(StatusCode::OK, OPENMETRICS, figures)
        }
        Ok(Answer::Metrics(figures)) => content(StatusCode::OK, CLASSIC, exposition::classic(&figures)),
        other => failed(other),
    })
}

fn accepts_openmetrics(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|kind| {
        kind.split(';')
            .next()
            .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/openmetrics-text"))
    })
}

/// `/livez`: whether the hub works. Nobody is asked, so that a crowd of others who ask does not make an
/// orchestrator restart it.
pub(crate) fn alive(site: &Site) -> Response<Body> {
    fresh(match site.edge.alive() {
        Ok(()) => text(StatusCode::OK, "alive\n"),
        Err(error) => text(StatusCode::SERVICE_UNAVAILABLE, &format!("{error}\n")),
    })
}

/// `/readyz`: whether this hub takes and serves clients. How its mesh is has no part in that: a load
/// balancer that took the hubs of a mesh away because one of them died would leave clients none.
pub(crate) async fn ready(site: &Site) -> Response<Body> {
    fresh(match site.edge.ask(Command::Status).await {
        Ok(Answer::Status(status)) if status.serves() => {
            text(StatusCode::OK, "ready: this hub takes clients; /meshz tells how its mesh is\n")
        }
        Ok(Answer::Status(_)) => {
            text(StatusCode::SERVICE_UNAVAILABLE, "draining: this hub leaves and takes no clients\n")
        }
        other => failed(other),
    })
}

/// `/meshz`: whether the mesh is whole as this hub sees it, and the state and why.
pub(crate) async fn mesh(site: &Site) -> Response<Body> {
    fresh(match site.edge.ask(Command::Status).await {
        Ok(Answer::Status(status)) => match status.lacks() {
            None => text(StatusCode::OK, &format!("{}: {}\n", status.state.name(), status.reason)),
            Some(lacks) => text(StatusCode::SERVICE_UNAVAILABLE, &format!("{lacks}\n")),
        },
        other => failed(other),
    })
}

fn fresh(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn failed(answer: Result<Answer, AskError>) -> Response<Body> {
    match answer {
        Err(error) => text(StatusCode::SERVICE_UNAVAILABLE, &format!("{error}\n")),
        // The driver answers what it was asked.
        Ok(_) => {
            text(StatusCode::INTERNAL_SERVER_ERROR, "the hub gave another answer than it was asked for\n")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_that_was_asked_for_must_be_free_and_any_other_is_done_without() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = taken.local_addr().expect("an address");
        let mut config = Config::default();
        config.metrics.listen = MetricsListen::At(address);
        let error = bind(&config).expect_err("refused").to_string();
        let expected =
            format!("metrics.listen = \"{address}\": another process listens on 127.0.0.1; name another");
        assert!(error.starts_with(&expected), "{error}");

        config.metrics.listen = MetricsListen::Auto;
        config.listen.port = address.port() - MetricsListen::ABOVE;
        assert_eq!(bind(&config).map(|listeners| listeners.len()).expect("no error"), 0);

        config.metrics.listen = MetricsListen::Off;
        assert_eq!(bind(&config).map(|listeners| listeners.len()).expect("no error"), 0);
    }
}
