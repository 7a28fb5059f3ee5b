from engine.catalog import ledger


def test_events_stand_in_the_order_in_which_they_came(workspace):
    with workspace.session() as session:
        ledger.record(session, "ingest", scenes=3)
        ledger.record(session, "labels", source="a.json")
        ledger.record(session, "ingest", scenes=1)
    with workspace.session() as session:
        assert [event.kind for event in ledger.events(session)] == ["ingest", "labels", "ingest"]
        assert [event.details for event in ledger.events(session, "ingest")] == [{"scenes": 3}, {"scenes": 1}]
