{# Brian2's own threshold.cpp without refractoriness, 64 neurons at a time; see threshold.pyx. #}
{# USES_VARIABLES { N } #}
{% extends 'common_group.cpp' %}

{% block extra_headers %}
#include <cstring>
{% endblock %}

{% block maincode %}
    // scalar code
    const int _vectorisation_idx = -1;
    {{scalar_code|autoindent}}

    {% set _eventspace = get_array_name(eventspace_variable) %}
    size_t _fired = 0, _start = 0;
    for (; _start + 64 <= N; _start += 64)
    {
        char _hits[64];
        for (size_t _offset = 0; _offset < 64; _offset++)
        {
            const size_t _idx = _start + _offset;
            const size_t _vectorisation_idx = _idx;
            {{vector_code|autoindent}}
            _hits[_offset] = _cond;
        }
        for (size_t _offset = 0; _offset < 64; _offset += 8)
        {
            uint64_t _eight;
            memcpy(&_eight, _hits + _offset, 8);
            if (!_eight) continue;
            for (size_t _byte = _offset; _byte < _offset + 8; _byte++)
            {
                {{_eventspace}}[_fired] = _start + _byte;
                _fired += _hits[_byte];
            }
        }
    }
    for (size_t _idx = _start; _idx < N; _idx++)
    {
        const size_t _vectorisation_idx = _idx;
        {{vector_code|autoindent}}
        {{_eventspace}}[_fired] = _idx;
        _fired += _cond;
    }
    {{_eventspace}}[N] = _fired;
{% endblock %}

{% block after_code %}
{% set _eventspace = get_array_name(eventspace_variable) %}
    {{_eventspace}}[N] = 0;
{% endblock %}
