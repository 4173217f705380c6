"""What is asked for at any moment and done on the next turn, on a mux that is a list of events."""

from rpcasync.serving.notes import Notes


class Mux:
    """Keeps what it is told to hand out, by the method that told it."""

    def __init__(self):
        self.pushed = []
        self.posted = []

    def push_event(self, event):
        self.pushed.append(event)

    def post(self, event):
        self.posted.append(event)


def test_a_note_is_posted_since_it_may_come_from_another_thread():
    mux, done = Mux(), []
    notes = Notes(mux)
    notes.add(lambda: done.append(1))
    notes.add(lambda: done.append(2))
    assert (mux.posted, mux.pushed, done) == ([notes.wake_event], [], [])
    notes.do()
    assert done == [1, 2]
    assert not notes.actions


def test_one_event_is_on_its_way_at_a_time():
    mux = Mux()
    notes = Notes(mux)
    notes.wake()
    notes.wake()
    notes.add(int)
    assert (mux.posted, mux.pushed) == ([], [notes.wake_event])
    notes.is_woken = False  # it was handed out
    notes.wake()
    assert mux.pushed == [notes.wake_event] * 2


def test_a_note_that_is_added_by_another_is_done_in_the_same_turn():
    done = []
    notes = Notes(Mux())
    notes.add(lambda: notes.add(lambda: done.append(1)))
    notes.do()
    assert done == [1]


def test_a_note_that_fails_does_not_keep_the_others(caplog):
    done = []
    notes = Notes(Mux())
    notes.add(lambda: 1 / 0)
    notes.add(lambda: done.append(1))
    notes.do()
    assert done == [1]
    assert "ZeroDivisionError" in caplog.text


def test_a_mux_that_cannot_be_woken():
    done = []
    notes = Notes(object())
    notes.add(lambda: done.append(1))
    notes.wake()
    notes.do()
    assert done == [1]
    assert not notes.is_woken
