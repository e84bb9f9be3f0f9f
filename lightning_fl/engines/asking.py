"""Ask a site that lives in this process; whatever it raises becomes a value."""

import logging
import time
import traceback

from lightning_fl.errors import NonFiniteError, SiteError, SiteErrorKind
from lightning_fl.wire.transport import Answering, Reply

_log = logging.getLogger(__name__)


def ask(name: str, site: Answering, op: str, payload: bytes) -> Reply | SiteError:
    """A site's answer and the seconds it took, or why there is none.

    Args:
        name: of the site.
        site: answers.
        op: the operation.
        payload: of the operation.

    Returns:
        The reply, or a SiteError whose cause is what the site raised.

    Raises:
        KeyboardInterrupt: Ctrl-C, also where Lightning made a SystemExit of it.
    """
    start = time.perf_counter()
    try:
        answer = site.handle(op, payload)
    except Exception as error:  # the boundary of a site: whatever it raises is its failure
        kind: SiteErrorKind = "non_finite" if isinstance(error, NonFiniteError) else "failed"
        failure = SiteError(name, op, kind, f"{type(error).__name__}: {error}")
        failure.__cause__ = error
        _log.debug("site %s failed in %s", name, op, exc_info=error)
        if error.__traceback__ is not None:  # its frames hold the site's model and batches
            traceback.clear_frames(error.__traceback__)
        return failure
    except SystemExit as stopped:
        if isinstance(stopped.__context__, KeyboardInterrupt):  # Lightning hides Ctrl-C so
            raise KeyboardInterrupt from stopped
        raise
    return Reply(answer, time.perf_counter() - start)
