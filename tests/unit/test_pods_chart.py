"""Outage against pods, as `integration/driver/run --plot` measures it: the document, the chart."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

from integration.driver import pods

_SIZES = [
    {"pods": 1, "records only": [0.5, 0.7, 0.6], "armed": [0.2, 0.3, 0.4]},
    {"pods": 24, "records only": [9.0, 8.0, 7.0], "armed": [3.0, 2.0, 1.0]},
]


def test_document_with_a_line_for_each_number_of_pods() -> None:
    document = pods.to_json({"kernel": "6.1.0-1-amd64"}, _SIZES)
    assert json.loads(document) == {"kernel": "6.1.0-1-amd64", "sizes": _SIZES}
    assert [line for line in document.splitlines() if line.startswith('{"pods"')][1:]


def test_chart_has_a_line_for_each_way() -> None:
    picture = ET.fromstring(pods.drawn(pods.to_json({"kernel": "6.1.0-1-amd64"}, _SIZES)))
    texts = [element.text for element in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert {"records only", "armed", "1", "24"} <= set(texts)
    assert any("6.1.0-1-amd64" in (text or "") for text in texts)
    assert len(list(picture.iter("{http://www.w3.org/2000/svg}polyline"))) == 2
