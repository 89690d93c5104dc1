"""llama.cpp's metrics of several models as one exposition."""

from prometheus_client.parser import text_string_to_metric_families

from aistack.engine.metrics import Meters, merged

TEXT = """# HELP llamacpp:tokens_total Tokens
# TYPE llamacpp:tokens_total counter
llamacpp:tokens_total 7
# HELP llamacpp:busy Busy slots
# TYPE llamacpp:busy gauge
llamacpp:busy{slot="1"} 0.5
"""


def test_each_sample_names_its_model_and_samples_of_one_name_stand_together() -> None:
    text = merged({"a": TEXT, 'b"\\\n': TEXT})
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert [sample.labels["model"] for sample in families["llamacpp:tokens"].samples] == ["a", 'b"\\\n']
    assert families["llamacpp:busy"].samples[0].labels == {"slot": "1", "model": "a"}
    assert text.count("# TYPE llamacpp:tokens_total counter") == 1


def test_a_model_that_does_not_answer_spoils_nothing() -> None:
    assert merged({"a": "", "b": "rubbish\n"}) == ""


def test_own_numbers_are_in_prometheus_format() -> None:
    meters = Meters()
    meters.loads.labels(model="m").inc()
    families = {family.name: family for family in text_string_to_metric_families(meters.text())}
    assert families["aistack_engine_loads"].samples[0].value == 1
