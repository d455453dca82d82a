"""Stand-ins for models whose code comes with their checkpoint."""

from tests.remote_code.conftest import folders as folders
from tests.remote_code.conftest import modules_here as modules_here
