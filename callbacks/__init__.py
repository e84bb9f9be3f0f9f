"""Lightning callbacks and monitors: the hooks of federated methods, and progress."""

from callbacks.federated import FederatedCallback as FederatedCallback
from callbacks.progress import progress_monitor as progress_monitor
