"""A server and clients as real processes, killed and resumed."""

import signal

from fedcomp.benchmarks.server.federation import Federation


def test_kills_lose_no_more_than_the_round_in_flight(tmp_path):
    with Federation(tmp_path, num_server_rounds=4, round_deadline=15, downlink="lossless") as federation:
        server = federation.start_server()
        clients = [federation.start_client(number) for number in (0, 1)]
        federation.wait_for_rounds(1)
        before = federation.rows()
        for process in (server, clients[0]):
            federation.kill(process)
        second = federation.start_server()
        assert second.wait(60) == 2
        assert "--resume" in federation.log("server")
        server = federation.start_server("--resume")
        federation.start_client(0)
        federation.wait_for_rounds(2)
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 128 + signal.SIGTERM
        assert federation.start_server("--resume").wait(180) == 0, federation.log("server")
        assert federation.start_server("--resume").wait(60) == 0  # nothing is left to do
    rows = federation.rows()
    assert [row["round"] for row in rows] == [1, 2, 3, 4]
    assert rows[:1] == before[:1]
    assert sum(row["accepted"] for row in rows) == federation.summary["updates_accepted"] >= 4
    assert federation.summary["updates_rejected"] == 0
    assert "lost-model" not in federation.log("server")
    # How far four rounds get depends on who was there in time; one that began anew is where the first round was.
    assert federation.summary["accuracy"] == rows[-1]["accuracy"] > rows[0]["accuracy"] + 0.1
