# The two commands of the README, and what else is done often. Everything is in set_up.py.
.PHONY: run test check format lock load bench soak fuzz

run:    ; @python3 set_up.py run $(ARGS)
test:   ; @python3 set_up.py test $(ARGS)
check:  ; @python3 set_up.py check
format: ; @python3 set_up.py format
lock:   ; @python3 set_up.py lock
load:   ; @python3 set_up.py load $(ARGS)
bench:  ; @python3 set_up.py bench $(ARGS)
soak:   ; @python3 set_up.py soak $(ARGS)
fuzz:   ; @python3 set_up.py fuzz $(ARGS)
