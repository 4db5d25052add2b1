import pytest

from app.config import load_settings, unknown_variables

# All that Kubernetes sets in a pod beside a service named wylon.
SERVICE = {
    "WYLON_SERVICE_HOST": "10.0.0.7",
    "WYLON_SERVICE_PORT": "8080",
    "WYLON_SERVICE_PORT_HTTP": "8080",
    "WYLON_PORT": "tcp://10.0.0.7:8080",
    "WYLON_PORT_8080_TCP": "tcp://10.0.0.7:8080",
    "WYLON_PORT_8080_TCP_PROTO": "tcp",
    "WYLON_PORT_8080_TCP_PORT": "8080",
    "WYLON_PORT_8080_TCP_ADDR": "10.0.0.7",
}


def test_beside_a_service_named_wylon_the_port_is_the_default() -> None:
    assert load_settings(SERVICE).port == 8080


def test_the_address_of_a_service_is_told_in_one_warning() -> None:
    warnings = unknown_variables(SERVICE)

    assert len(warnings) == 1
    assert "Kubernetes" in warnings[0]
    assert "enableServiceLinks" in warnings[0]


@pytest.mark.parametrize("name", ["WYLON_PORTS", "WYLON_SERVICE", "WYLON_PORT_HTTP"])
def test_a_misspelt_setting_is_still_told(name: str) -> None:
    assert unknown_variables({name: "1"})[0].startswith(f"Warning: {name} is no setting")
