"""A stand-in for Kaggle on the loopback interface: the official client talks to it over a socket, and it runs what is
pushed.

    with Standin(folder) as kaggle:
        subprocess.run(["kaggle", "kernels", "push", "-p", "."], env=kaggle.client_environment(home))

Built from ../shared/facts/kaggle.md and the sources of the client; nothing of it was compared with the real server. It
binds 127.0.0.1 only and forwards nothing.
"""

from tests.standins.kaggle.login import log_in, use
from tests.standins.kaggle.server import Fault, Standin
from tests.standins.kaggle.world import Knobs

__all__ = ["Fault", "Knobs", "Standin", "log_in", "use"]
