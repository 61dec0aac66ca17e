//! The one table from [`ErrorCode`] to the HTTP status and the exit code of the command line.
//!
//! Writes no text; messages and hints come with the failure.

use amcp_protocol::{Answer, AnswerState, ErrorCode};
use axum::http::StatusCode;

/// A complete answer was given.
pub const EXIT_ANSWERED: u8 = 0;
/// The request failed.
pub const EXIT_FAILED: u8 = 1;
/// The command line, the configuration or the query is unusable.
pub const EXIT_USAGE: u8 = 2;
/// Part of the answer is missing; the rest was printed.
pub const EXIT_PARTIAL: u8 = 3;
/// The user or another client cancelled the request.
pub const EXIT_CANCELLED: u8 = 4;
/// Unavailable for now (overloaded, draining, no node, no LLM): the same command may work later.
pub const EXIT_UNAVAILABLE: u8 = 5;

/// The HTTP status and the exit code of a failure.
#[must_use]
pub fn outcome(code: ErrorCode) -> (StatusCode, u8) {
    // A code without a row comes from a newer peer: we only know that something failed.
    row(code).unwrap_or((StatusCode::INTERNAL_SERVER_ERROR, EXIT_FAILED))
}

/// The HTTP status and the exit code of an answer: 200 also for a partial one, the status of its reason for a failed one.
#[must_use]
pub fn of_answer(answer: &Answer) -> (StatusCode, u8) {
    match answer.state {
        AnswerState::Completed => (StatusCode::OK, EXIT_ANSWERED),
        AnswerState::Partial => (StatusCode::OK, EXIT_PARTIAL),
        AnswerState::Cancelled => outcome(ErrorCode::Cancelled),
        AnswerState::Failed => outcome(
            answer
                .error
                .as_ref()
                .map_or(ErrorCode::Internal, |e| e.code),
        ),
    }
}

fn row(code: ErrorCode) -> Option<(StatusCode, u8)> {
    use ErrorCode as E;
    use StatusCode as S;
    Some(match code {
        E::BadRequest => (S::BAD_REQUEST, EXIT_USAGE),
        E::Overloaded | E::QuotaExceeded => (S::TOO_MANY_REQUESTS, EXIT_UNAVAILABLE),
        E::ShuttingDown | E::NotReady => (S::SERVICE_UNAVAILABLE, EXIT_UNAVAILABLE),
        E::NotFound => (S::NOT_FOUND, EXIT_FAILED),
        E::Unauthenticated => (S::UNAUTHORIZED, EXIT_FAILED),
        E::MethodNotAllowed => (S::METHOD_NOT_ALLOWED, EXIT_FAILED),
        E::NotAcceptable => (S::NOT_ACCEPTABLE, EXIT_FAILED),
        E::TooLarge => (S::PAYLOAD_TOO_LARGE, EXIT_USAGE),
        E::IdempotencyConflict | E::FlowRequired | E::FlowClosed => (S::CONFLICT, EXIT_FAILED),
        E::Gone | E::FlowExpired => (S::GONE, EXIT_FAILED),
        E::Cancelled => (S::CONFLICT, EXIT_CANCELLED),
        E::NotPermitted | E::FlowDenied => (S::FORBIDDEN, EXIT_FAILED),
        E::DeadlineExceeded | E::TaskTimeout => (S::GATEWAY_TIMEOUT, EXIT_FAILED),
        // The request is valid but cannot be done as asked.
        E::BudgetExceeded
        | E::NothingPlanned
        | E::InvalidPlan
        | E::UnknownCapability
        | E::CyclicPlan
        | E::TaskFailed
        | E::InvalidParams
        | E::FlowUnsupported
        | E::ResultTooLarge
        | E::DependencyFailed => (S::UNPROCESSABLE_ENTITY, EXIT_FAILED),
        E::StorageFull => (S::INSUFFICIENT_STORAGE, EXIT_FAILED),
        E::LlmUnavailable | E::LlmBusy => (S::SERVICE_UNAVAILABLE, EXIT_UNAVAILABLE),
        E::LlmTimeout => (S::GATEWAY_TIMEOUT, EXIT_UNAVAILABLE),
        E::LlmModelMissing => (S::SERVICE_UNAVAILABLE, EXIT_FAILED),
        E::NoAgent | E::AgentBusy | E::AgentUnavailable => {
            (S::SERVICE_UNAVAILABLE, EXIT_UNAVAILABLE)
        }
        // A service behind this node failed.
        E::LlmCut
        | E::LlmMalformed
        | E::UpstreamUnavailable
        | E::UpstreamFailed
        | E::UnsupportedWire => (S::BAD_GATEWAY, EXIT_FAILED),
        E::Internal
        | E::AgentLost
        | E::NodeLost
        | E::AgentPanicked
        | E::InvalidResult
        | E::Quarantined => (S::INTERNAL_SERVER_ERROR, EXIT_FAILED),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_row_and_none_reports_success() {
        for &code in ErrorCode::ALL {
            let (status, exit) = row(code).unwrap_or_else(|| panic!("{code} has no row"));
            assert!(
                status.is_client_error() || status.is_server_error(),
                "{code}"
            );
            assert_ne!(exit, EXIT_ANSWERED, "{code}");
            assert_ne!(exit, EXIT_PARTIAL, "{code}");
        }
    }

    #[test]
    fn what_clients_rely_on() {
        assert_eq!(outcome(ErrorCode::Overloaded).0, 429);
        assert_eq!(outcome(ErrorCode::ShuttingDown).0, 503);
        assert_eq!(outcome(ErrorCode::NotReady).0, 503);
        assert_eq!(outcome(ErrorCode::IdempotencyConflict).0, 409);
        assert_eq!(outcome(ErrorCode::Gone).0, 410);
        assert_eq!(outcome(ErrorCode::BadRequest), (StatusCode::BAD_REQUEST, 2));
        assert_eq!(outcome(ErrorCode::Cancelled).1, EXIT_CANCELLED);
    }
}
