"""What a Kafka error means for the engine; the only place where error codes are judged."""

from __future__ import annotations

from collections.abc import Sequence

from confluent_kafka import KafkaError, KafkaException

from kexport import ConfigError, RejectedError, TransientError

_TRANSPORT = KafkaError._TRANSPORT  # noqa: SLF001  (librdkafka's own codes begin with an underscore)
_CREDENTIALS = frozenset(
    {
        KafkaError._AUTHENTICATION,  # noqa: SLF001
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.UNSUPPORTED_SASL_MECHANISM,
        KafkaError.ILLEGAL_SASL_STATE,
    }
)
_PERMISSION = frozenset({KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED})
_NO_TOPIC = frozenset(
    {
        KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001
        KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001  (a topic that was deleted has none left)
        KafkaError.UNKNOWN_TOPIC_OR_PART,
    }
)
_NEVER_TAKEN = frozenset(
    {KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_RECORD, KafkaError.INVALID_MSG_SIZE}
)
_SILENCE = frozenset(
    {
        KafkaError._MSG_TIMED_OUT,  # noqa: SLF001
        KafkaError._TIMED_OUT,  # noqa: SLF001
        _TRANSPORT,
        KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001
    }
)


def failure(
    error: KafkaError, *, place: str, topic: str, written: int, heard: Sequence[KafkaError] = ()
) -> TransientError | RejectedError:
    """The error to raise from `write` when event number `written` met this one.

    `heard` is what the client reported meanwhile: a record that timed out does not say why by itself.
    """
    where = _where(place, topic)
    if error.code() in _NEVER_TAKEN:
        problem = (
            f"{where}: the record is refused ({error.str()}): raise the topic's max.message.bytes and"
            ' properties."message.max.bytes", or make the event smaller with a transform'
            if error.code() != KafkaError.INVALID_RECORD
            else f"{where}: the brokers find the record invalid ({error.str()}): see the topic's settings"
        )
        return RejectedError(problem, written=written)
    if error.code() in _SILENCE:
        error = next((each for each in heard if each.code() in _CREDENTIALS), error)
    problem = _problem(error, where)
    if error.code() in _SILENCE and heard:
        problem += f"; last heard: {heard[-1].str()}"
    return TransientError(problem, written=written)


def opening_failure(
    errors: Sequence[KafkaError], *, place: str, topic: str, brokers: str
) -> ConfigError | TransientError:
    """The error to raise from `open` after these; ConfigError when a broker said that we may not."""
    for error in errors:
        if error.code() in _CREDENTIALS | _PERMISSION | _NO_TOPIC:
            return ConfigError(_problem(error, _where(place, topic)))
        if "certificate verify failed" in error.str():
            return ConfigError(
                f"{place}: the brokers' certificate is not trusted ({error.str()}): set ca_file"
            )
    # What one connection met says more than "all are down", and both more than that nobody answered.
    telling = (each for each in reversed(errors[:-1]) if each.code() not in _SILENCE - {_TRANSPORT})
    reason = next(telling, errors[-1]).str()
    return TransientError(
        f"{place}: no broker of {brokers} can be reached: {reason}: check bootstrap_servers, and whether the"
        " listener wants tls or username"
    )


def refused_by_client(error: KafkaException, *, place: str) -> ConfigError:
    """The client did not accept its settings."""
    return ConfigError(f"{place}: the Kafka client refuses its settings: {error.args[0].str()}: correct it")


def is_no_topic(error: KafkaError) -> bool:
    """Whether the topic is not there, or not yet."""
    return error.code() in _NO_TOPIC


def is_final(error: KafkaError) -> bool:
    """Whether waiting for a broker's answer has become pointless."""
    return error.code() in _CREDENTIALS | _PERMISSION


def concerns_whole_request(error: KafkaError) -> bool:
    """Whether the broker may have refused an event only for what was sent along with it.

    librdkafka puts many records into one request and does not split it when it is too large: only a request
    with this event alone tells whether the event itself is at fault.
    """
    different = KafkaError._INVALID_DIFFERENT_RECORD  # noqa: SLF001
    return error.code() in _NEVER_TAKEN or error.code() == different


def sticks(error: KafkaError) -> bool:
    """Whether the client would go on to refuse this topic for minutes after the cause is mended."""
    return _is_fatal(error) or error.code() in _PERMISSION | _NO_TOPIC | _CREDENTIALS


def raised(error: BaseException) -> KafkaError | None:
    """The Kafka error that an exception of the client carries; a fatal one may come inside a SystemError."""
    inner = error.__cause__ if isinstance(error, SystemError) else error
    return inner.args[0] if isinstance(inner, KafkaException) else None


def _is_fatal(error: KafkaError) -> bool:
    return bool(error.fatal() or error.code() == KafkaError._FATAL)  # noqa: SLF001


def _where(place: str, topic: str) -> str:
    return f"{place}: topic {topic!r}" if topic else place


def _problem(error: KafkaError, where: str) -> str:
    code, said = error.code(), error.str()
    if code in _CREDENTIALS:
        return (
            f"{where}: the brokers refuse the credentials ({said}): check username, password and"
            " sasl_mechanism"
        )
    if code in _PERMISSION:
        return f"{where}: the brokers do not allow this user to write ({said}): grant it Write and Describe"
    if code in _NO_TOPIC:
        return f"{where}: no such topic, and the brokers do not make it ({said}): create it"
    if _is_fatal(error):
        return f"{where}: the client lost its place ({said}): it is built anew for the next try"
    if code in _SILENCE:
        return f"{where}: no acknowledgement from the brokers ({said}): see whether they are up and in sync"
    return f"{where}: not written ({said})"
