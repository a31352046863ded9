from tests.integration.api.conftest import front as front  # a hub with its API front
