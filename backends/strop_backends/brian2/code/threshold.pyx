{# Brian2's own threshold.pyx, without refractoriness: most neurons do not fire, so that they are compared 64 at a time
   (the compiler makes vector instructions of that), and looked at eight at a time. #}
{# USES_VARIABLES { N } #}
{% extends 'common_group.pyx' %}

{% block template_support_code %}
from libc.string cimport memcpy
{% endblock %}

{% block maincode %}
    # scalar code
    _vectorisation_idx = 1
    {{ scalar_code | autoindent }}

    {% set _eventspace = get_array_name(eventspace_variable) %}
    cdef size_t _fired = 0, _start, _offset, _byte
    cdef char _hits[64]
    cdef uint64_t _eight

    for _start in range(0, N - N % 64, 64):
        for _offset in range(64):
            # vector code
            _idx = _start + _offset
            _vectorisation_idx = _idx
            {{ vector_code | autoindent }}
            _hits[_offset] = _cond
        for _offset in range(0, 64, 8):
            memcpy(&_eight, &_hits[_offset], 8)
            if _eight:
                for _byte in range(_offset, _offset + 8):
                    # Overwritten by the next one unless this neuron fires; never beyond its own place.
                    {{_eventspace}}[_fired] = _start + _byte
                    _fired += _hits[_byte]
    for _idx in range(N - N % 64, N):
        # vector code
        _vectorisation_idx = _idx
        {{ vector_code | autoindent }}
        {{_eventspace}}[_fired] = _idx
        _fired += _cond

    {{_eventspace}}[N] = _fired
{% endblock %}

{% block after_code %}
    {% set _eventspace = get_array_name(eventspace_variable) %}
    {{_eventspace}}[N] = 0
{% endblock %}
