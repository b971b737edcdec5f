import pytest

pytest.register_assert_rewrite("codec.trips")
