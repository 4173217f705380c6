"""The order in which workers are replaced, without processes."""

from rpcasync.workers.roll import Roll, Seat


class Worker:
    """Stands for a process."""


class Crew:
    """Two seats; it notes what is done."""

    def __init__(self):
        self.seats = [Seat(1), Seat(2)]
        for seat in self.seats:
            seat.worker = Worker()
        self.old = [seat.worker for seat in self.seats]
        self.started, self.dismissed, self.ends = [], [], []
        self.can_start = True
        self.roll = Roll(self.seats, self.start, self.dismissed.append, self.end)

    def start(self, seat):
        if not self.can_start:
            return None
        self.started.append((seat.number, Worker()))
        return self.started[-1][1]

    def end(self, count, seconds, is_done):
        assert seconds >= 0
        self.ends.append((count, is_done))


def test_one_after_the_other():
    crew = Crew()
    roll = crew.roll
    roll.go_on()
    for at, (seat, old) in enumerate(zip(crew.seats, crew.old, strict=True)):
        number, new = crew.started[at]
        assert (number, len(crew.started), len(crew.dismissed)) == (seat.number, at + 1, at)
        assert seat.worker is old  # as long as the new one is not ready
        assert [roll.is_replacing(each) for each in crew.seats] == [at == 0, at == 1]
        roll.ready(new)
        assert not any(map(roll.is_replacing, crew.seats))
        assert (seat.worker, crew.dismissed[at:], crew.ends) == (new, [old], [])
        assert roll.ended(old)
    assert crew.ends == [(2, True)]


def test_a_replacement_that_ends():
    crew = Crew()
    crew.roll.go_on()
    assert crew.roll.ended(crew.started[0][1])
    assert (crew.ends, crew.dismissed) == ([(0, False)], [])
    assert [seat.worker for seat in crew.seats] == crew.old


def test_a_replacement_that_cannot_be_started():
    crew = Crew()
    crew.can_start = False
    crew.roll.go_on()
    assert (crew.ends, crew.dismissed) == ([(0, False)], [])


def test_an_old_one_that_ends_before_it_is_told_to():
    crew = Crew()
    crew.roll.go_on()
    assert not crew.roll.ended(crew.old[0])  # it is no doing of the roll
    crew.seats[0].worker = None
    crew.roll.ready(crew.started[0][1])
    assert (crew.seats[0].worker, crew.dismissed) == (crew.started[0][1], [])
    assert [number for number, _ in crew.started] == [1, 2]


def test_what_was_started_since_is_new():
    crew = Crew()
    crew.roll.go_on()
    another = crew.seats[1].worker = Worker()
    crew.roll.ready(crew.started[0][1])
    crew.roll.ended(crew.old[0])
    assert (crew.ends, crew.seats[1].worker) == ([(1, True)], another)


def test_a_seat_that_is_empty_is_filled():
    crew = Crew()
    crew.seats[0].worker = None
    crew.roll.go_on()
    assert [number for number, _ in crew.started] == [1]


def test_one_that_does_not_belong_to_it():
    crew = Crew()
    crew.roll.go_on()
    crew.roll.ready(crew.old[1])
    assert not crew.roll.ended(crew.old[1])
    assert (crew.ends, crew.dismissed) == ([], [])
